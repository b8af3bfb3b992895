// The decision of each experiment that is placed where a request is: made once, pinned, the same for whoever asks.
//
// ensure_decisions() is called lazily by variables, filters and phases alike; none of them assumes that an earlier one
// ran.
#pragma once

#include "ngx_module/pin.h"

namespace experiment::ngx {

// Decides what the current location places and was not decided before. Returns: the pin, or nullptr when there is none
// to be had; then nobody is enrolled. Subrequests decide nothing: they see what applied in the main request.
Pin* ensure_decisions(ngx_http_request_t* r) noexcept;
// The same when only one experiment is asked for: nullptr when it is not placed here and was not decided before.
const Decision* ensure_decision(ngx_http_request_t* r, int experiment) noexcept;

inline const PlanExperiment& experiment_of(const Pin& pin, const Decision& decision) noexcept {
  return *pin.plan->experiments[decision.experiment];
}

}  // namespace experiment::ngx
