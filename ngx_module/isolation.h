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
// Puts the outward token into the ETag and takes Last-Modified out, before not_modified compares them.
void isolate_validators(ngx_http_request_t* r, Pin& pin) noexcept;
// Makes the answer private, or tags it; after nginx's headers filter, which would undo it.
void isolate_outward(ngx_http_request_t* r, Pin& pin) noexcept;

}  // namespace experiment::ngx
