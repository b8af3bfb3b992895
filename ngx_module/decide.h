// The decision of each experiment that is placed where a request is: made once, pinned, the same for whoever asks.
//
// ensure_decisions() is called lazily by variables, filters and phases alike; none of them assumes that an earlier one
// ran.
#pragma once

#include "ngx_module/pin.h"

namespace experiment::ngx {

// Decides what the location places. Requires: it places something, and r is a main request. `pin` may be nullptr.
Pin* decide_here(ngx_http_request_t* r, Pin* pin) noexcept;
// Decides what the current location places and was not decided before. Returns: the pin; nullptr where nothing was
// placed yet, or when there is none to be had: then nobody is enrolled. Subrequests decide nothing: they see what
// applied in the main request.
inline Pin* ensure_decisions(ngx_http_request_t* r) noexcept {
  Pin* pin = context_of(r);
  const Placement* placement = loc_conf(r).placement;
  if (pin != nullptr && pin->decided == placement) return pin->plan != nullptr ? pin : nullptr;
  return placement == nullptr || r != r->main ? find_pin(r) : decide_here(r, find_pin(r));
}
// Says once in a request that an experiment, by its index in the plan, is placed where nothing is decided.
void warn_subrequest(ngx_http_request_t* r, Pin& pin, int experiment) noexcept;

}  // namespace experiment::ngx
