// Counting exposures: once per unit and experiment, when an HTML answer is on its way to a person.
#pragma once

#include "ngx_module/pin.h"

namespace experiment::ngx {

// Called by the header filter for the main request, before not_modified. Takes Experiment-Served out of the answer.
void count_exposures(ngx_http_request_t* r, Pin& pin) noexcept;

}  // namespace experiment::ngx
