// The location of experiment_metrics: this node's counters in Prometheus' text format. Labels are keys and small
// enumerations, never a unit.
#pragma once

#include "ngx_module/ngx.h"

namespace experiment::ngx {

ngx_int_t metrics_handler(ngx_http_request_t* r) noexcept;

}  // namespace experiment::ngx
