// Who asks, and how: a person opening a page, a script, a prefetch, a bot. Read from the client's headers, once per
// request.
#pragma once

#include "ngx_module/pin.h"

namespace experiment::ngx {

// GET with Sec-Fetch-Dest document or iframe; without Sec-Fetch headers, GET that accepts text/html.
bool is_navigation(ngx_http_request_t* r, Pin& pin) noexcept;
// Fetched ahead of a visit that may never happen: served and remembered, not counted.
bool is_prefetch(ngx_http_request_t* r, Pin& pin) noexcept;
bool is_bot(ngx_http_request_t* r, Pin& pin) noexcept;

}  // namespace experiment::ngx
