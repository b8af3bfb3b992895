// What comes in: forged headers go out of the request, ours go in, conditional headers lose our token.
#pragma once

#include "ngx_module/ngx.h"

namespace experiment::ngx {

// POST_READ: takes assignment headers of the client out of the header list, in every spelling, so that no backend takes
// them for ours.
ngx_int_t strip_inbound(ngx_http_request_t* r) noexcept;
// PREACCESS: decides, and hands the assignments to whatever serves the request. Runs again after internal redirects.
ngx_int_t forward_assignments(ngx_http_request_t* r) noexcept;

}  // namespace experiment::ngx
