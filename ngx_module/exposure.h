// Counting exposures: once per unit and experiment, when an HTML answer is on its way to a person.
#pragma once

#include "ngx_module/pin.h"

namespace experiment::ngx {

// Counts what is not known to be counted. Requires: a main request.
void count_unmarked(ngx_http_request_t* r, Pin& pin, std::string_view served) noexcept;

// Called by the header filter for a main request, before not_modified. `served` is what the backend said with
// Experiment-Served; without data it said nothing, and everything that was decided counts.
inline void count_exposures(ngx_http_request_t* r, Pin& pin, std::string_view served) noexcept {
  const Plan& plan = *pin.plan;
  bool marked = plan.recent->exposures.has(pin.exposures, plan.zone.filter().rotations());
  if (pin.remembers || (pin.exposures != 0 && !marked)) count_unmarked(r, pin, served);
}

}  // namespace experiment::ngx
