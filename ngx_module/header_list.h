// Taking headers out of nginx's lists and putting them in, without moving an element: nginx and other modules keep
// pointers to them.
#pragma once

#include "ngx_module/ngx.h"

namespace experiment::ngx {

// Walks a header list: for (Headers h(list); h; h.next()) use(*h).
class Headers {
 public:
  explicit Headers(ngx_list_t& list) noexcept : list_(list), part_(&list.part) { settle(); }
  explicit operator bool() const noexcept { return part_ != nullptr; }
  ngx_table_elt_t& operator*() const noexcept { return static_cast<ngx_table_elt_t*>(part_->elts)[index_]; }
  ngx_table_elt_t* operator->() const noexcept { return &**this; }
  void next() noexcept {
    ++index_;
    settle();
  }
  // Takes the current element out and goes on to the next. False: out of memory, it is still there.
  bool remove(ngx_pool_t* pool) noexcept;

 private:
  bool unlink(ngx_pool_t* pool) noexcept;
  void settle() noexcept {
    while (part_ != nullptr && index_ >= part_->nelts) {
      part_ = part_->next;
      index_ = 0;
    }
  }
  ngx_list_t& list_;
  ngx_list_part_t* part_;
  ngx_uint_t index_ = 0;
};

// A new inbound header. Requires: `lowcase` is the name in lower case, both outlive the request. nullptr: out of
// memory.
ngx_table_elt_t* push_inbound(ngx_http_request_t* r, std::string_view name, std::string_view lowcase,
                              std::string_view value) noexcept;
// A new outbound header.
ngx_table_elt_t* push_outbound(ngx_http_request_t* r, std::string_view name, std::string_view value) noexcept;
// Whether the header has this name in any spelling that a CGI-like backend could take for it: any case, with dashes,
// underscores, dots or other marks. Requires: `lowcase` has lower case and dashes.
bool is_named(const ngx_table_elt_t& header, std::string_view lowcase) noexcept;

}  // namespace experiment::ngx
