// The location of experiment_metrics: this node's counters in Prometheus' text format, sent as they are written, a
// piece in each turn of the event loop and only as fast as the client reads.
#pragma once

#include "ngx_module/ngx.h"

namespace experiment::ngx {

ngx_int_t metrics_handler(ngx_http_request_t* r) noexcept;

}  // namespace experiment::ngx
