// LOG phase: request metrics per arm, reasons per experiment. Every experiment that was decided is counted once,
// subrequests are not.
#pragma once

#include "ngx_module/ngx.h"

namespace experiment::ngx {

ngx_int_t log_request(ngx_http_request_t* r) noexcept;

}  // namespace experiment::ngx
