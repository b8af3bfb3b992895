// Counting requests by decision, arm, status, cache status and time: once each, when nginx has logged the request and
// frees it.
#pragma once

#include "ngx_module/pin.h"

namespace experiment::ngx {

void count_request(ngx_http_request_t* r, const Pin& pin) noexcept;

}  // namespace experiment::ngx
