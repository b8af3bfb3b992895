// Keeping cohorts apart: inward in nginx's own cache, outward in browsers and in caches in front.
#pragma once

#include "ngx_module/pin.h"

namespace experiment::ngx {

// Adds our header to the Vary that nginx's cache stores and looks up by. Must run before the cache writes its header.
void isolate_cache(ngx_http_request_t* r, Pin* pin) noexcept;
inline void isolate_inward(ngx_http_request_t* r, Pin* pin) noexcept {
#if (NGX_HTTP_CACHE)
  if (r->cache != nullptr) isolate_cache(r, pin);
#endif
}

inline Isolation isolation_of(ngx_http_request_t* r) noexcept {
  return static_cast<Isolation>(loc_conf(r).isolation);
}
void isolate_tags(ngx_http_request_t* r, Pin& pin) noexcept;
// Puts the outward token into the ETag and takes Last-Modified out, before not_modified compares them. Requires:
// something applied.
inline void isolate_validators(ngx_http_request_t* r, Pin& pin) noexcept {
  if (isolation_of(r) == Isolation::kOff) return;
  auto& out = r->headers_out;
  out.last_modified_time = -1;
  if (out.last_modified != nullptr) out.last_modified->hash = 0;
  out.last_modified = nullptr;
  if (out.etag != nullptr || pin.conditions != nullptr) isolate_tags(r, pin);
}
// Makes the answer private, or tags it; after nginx's headers filter, which would undo it.
void isolate_outward(ngx_http_request_t* r, Pin& pin) noexcept;

}  // namespace experiment::ngx
