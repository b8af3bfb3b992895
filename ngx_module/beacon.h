// The location of experiment_beacon: rewards from pages and apps, as JSON in a POST body.
#pragma once

#include "ngx_module/ngx.h"

namespace experiment::ngx {

// {"goal":"purchase","value":19.99,"id":"o-1"} or an array of up to 20. Always 204 (413 above 4 KiB, 405 for other
// methods): the reasons are in the metrics, since who sends a beacon cannot read an answer, and who guesses should
// learn nothing.
ngx_int_t beacon_handler(ngx_http_request_t* r) noexcept;

}  // namespace experiment::ngx
