// Who asks, and how: a person opening a page, a script, a prefetch, a bot. Read from the client's headers, once per
// request.
#pragma once

#include "ngx_module/pin.h"

namespace experiment::ngx {

// Finds out at once whether this is a navigation and whether a prefetch.
void read_headers(ngx_http_request_t* r, Pin& pin) noexcept;

// GET with Sec-Fetch-Dest document or iframe; without Sec-Fetch headers, GET that accepts text/html.
bool is_navigation(ngx_http_request_t* r, Pin& pin) noexcept;
// Fetched ahead of a visit that may never happen: served and remembered, not counted.
inline bool is_prefetch(ngx_http_request_t* r, Pin& pin) noexcept {
  if (pin.prefetch == Answer::kUnread) read_headers(r, pin);
  return pin.prefetch == Answer::kYes;
}
bool is_bot_agent(ngx_http_request_t* r, Pin& pin) noexcept;
inline bool is_bot(ngx_http_request_t* r, Pin& pin) noexcept {
  return r->main->headers_in.user_agent != nullptr && is_bot_agent(r, pin);
}

}  // namespace experiment::ngx
