// Counting exposures: once per unit and experiment, when an HTML answer is on its way to a person.
#pragma once

#include "ngx_module/pin.h"

namespace experiment::ngx {

// Whether somebody's exposure may be due.
inline bool anything_exposed(const Pin* pin) noexcept {
  return pin != nullptr && (pin->exposures != 0 || pin->remembers);
}
// Called by the header filter for a main request with something to count, before not_modified. `served` is what the
// backend said with Experiment-Served; without data it said nothing, and everything that was decided counts.
void count_exposures(ngx_http_request_t* r, Pin& pin, std::string_view served) noexcept;

}  // namespace experiment::ngx
