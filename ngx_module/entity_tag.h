// The outward token inside entity tags: "abc" becomes "abc;exp=checkout.green", so that a browser's copy of another
// variant is never confirmed. W/"abc" stays weak.
#pragma once

#include <string_view>

#include "ngx_module/ngx.h"

namespace experiment::ngx {

// The tag with the token inside; empty when it is no entity tag or the pool is out of memory.
std::string_view tag_with_token(ngx_pool_t* pool, std::string_view tag, std::string_view token) noexcept;

// For tags_without_token(): whatever token it is, or none.
inline constexpr std::string_view kAnyToken = "*";

// A client's list of tags (If-None-Match, If-Range), as the origin knows them: those with this token (token "-": those
// without any) lose it, others are dropped. Empty: none is left, or the pool is out of memory. `kept` is the same list
// with the tokens still inside.
struct OriginTags {
  std::string_view tags;
  std::string_view kept;
};
OriginTags tags_without_token(ngx_pool_t* pool, std::string_view list, std::string_view token) noexcept;

}  // namespace experiment::ngx
