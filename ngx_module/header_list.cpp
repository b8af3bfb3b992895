#include "ngx_module/header_list.h"

namespace experiment::ngx {

bool Headers::remove(ngx_pool_t* pool) noexcept {
  auto* elements = static_cast<ngx_table_elt_t*>(part_->elts);
  bool last = list_.last == part_;
  if (index_ + 1 == part_->nelts) {
    --part_->nelts;
    // nginx's own loops look into every part behind the first without asking whether it is empty.
    if (part_->nelts == 0 && part_ != &list_.part) return unlink(pool);
    settle();
    return true;
  }
  if (index_ == 0) {  // the part begins one later; the part that is pushed to has one place less
    part_->elts = elements + 1;
    --part_->nelts;
    if (last) --list_.nalloc;
    return true;
  }
  auto* rest = static_cast<ngx_list_part_t*>(ngx_palloc(pool, sizeof(ngx_list_part_t)));
  if (rest == nullptr) return false;
  rest->elts = elements + index_ + 1;
  rest->nelts = part_->nelts - index_ - 1;
  rest->next = part_->next;
  if (last) {
    list_.nalloc -= index_ + 1;
    list_.last = rest;
  }
  part_->nelts = index_;
  part_->next = rest;
  settle();
  return true;
}

bool Headers::unlink(ngx_pool_t* pool) noexcept {
  ngx_list_part_t* before = &list_.part;
  while (before->next != part_) before = before->next;
  if (list_.last == part_) {
    // Behind `before` there may be elements of a part that was split: the next push begins a part of its own.
    if (before->nelts == 0) {
      before->elts = ngx_palloc(pool, 8 * list_.size);
      if (before->elts == nullptr) return false;
      list_.nalloc = 8;
    } else {
      list_.nalloc = before->nelts;
    }
    list_.last = before;
  }
  before->next = part_->next;
  part_ = part_->next;
  index_ = 0;
  settle();
  return true;
}

ngx_table_elt_t* push_inbound(ngx_http_request_t* r, const HeaderName& name, std::string_view value) noexcept {
  auto* header = static_cast<ngx_table_elt_t*>(ngx_list_push(&r->headers_in.headers));
  if (header == nullptr) return nullptr;
  *header = {};
  header->key = borrow(name.name);
  header->value = borrow(value);
  header->lowcase_key = borrow(name.lowcase).data;
  header->hash = name.hash;
  return header;
}

bool is_named(const ngx_table_elt_t& header, std::string_view lowcase) noexcept {
  if (header.key.len != lowcase.size()) return false;
  for (std::size_t i = 0; i < lowcase.size(); ++i) {
    u_char c = ngx_tolower(header.key.data[i]);
    bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if ((letter ? c : '-') != static_cast<u_char>(lowcase[i])) return false;
  }
  return true;
}

}  // namespace experiment::ngx
