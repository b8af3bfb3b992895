// Differences between nginx releases, each with the release that made it.
#pragma once

#include "ngx_module/ngx.h"

namespace experiment::ngx {

// Forgets nginx's own pointers to Cache-Control headers, after their elements were hidden.
inline void clear_cache_control(ngx_http_request_t* r) noexcept {
#if (nginx_version >= 1023000)  // arrays of pointers became linked elements
  r->headers_out.cache_control = nullptr;
#else
  r->headers_out.cache_control.nelts = 0;
#endif
}

}  // namespace experiment::ngx
