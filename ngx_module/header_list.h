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

// Looks at each header, without taking any out.
template <typename Look>
void each_header(const ngx_list_t& list, Look look) noexcept {
  for (const ngx_list_part_t* part = &list.part; part != nullptr; part = part->next) {
    auto* header = static_cast<ngx_table_elt_t*>(part->elts);
    for (ngx_table_elt_t* end = header + part->nelts; header != end; ++header) look(*header);
  }
}

// A header that we set: its name as sent, in lower case, and nginx's hash of that.
struct HeaderName {
  std::string_view name, lowcase;
  ngx_uint_t hash;
  constexpr HeaderName(std::string_view as_sent, std::string_view in_lower_case) noexcept
      : name(as_sent), lowcase(in_lower_case), hash(0) {
    for (char c : lowcase) hash = ngx_hash(hash, static_cast<u_char>(c));
  }
};
// A new inbound header. Requires: `value` outlives the request. nullptr: out of memory.
ngx_table_elt_t* push_inbound(ngx_http_request_t* r, const HeaderName& name, std::string_view value) noexcept;
// A new outbound header.
inline ngx_table_elt_t* push_outbound(ngx_http_request_t* r, std::string_view name, std::string_view value) noexcept {
  auto* header = static_cast<ngx_table_elt_t*>(ngx_list_push(&r->headers_out.headers));
  if (header == nullptr) return nullptr;
  *header = {};
  header->hash = 1;
  header->key = borrow(name);
  header->value = borrow(value);
  return header;
}
// Whether the header has this name in any case. Requires: `lowcase` is in lower case.
inline bool is_exactly(const ngx_table_elt_t& header, std::string_view lowcase) noexcept {
  if (header.key.len != lowcase.size()) return false;
  if (header.lowcase_key != nullptr) return std::memcmp(header.lowcase_key, lowcase.data(), lowcase.size()) == 0;
  return ngx_strncasecmp(header.key.data, borrow(lowcase).data, lowcase.size()) == 0;
}
// Whether the header has this name in any spelling that a CGI-like backend could take for it: any case, with dashes,
// underscores, dots or other marks. Requires: `lowcase` has lower case and dashes.
bool is_named(const ngx_table_elt_t& header, std::string_view lowcase) noexcept;

}  // namespace experiment::ngx
