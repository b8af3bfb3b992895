// The assignment cookie's records as this request changes them, and the Set-Cookie lines that come of it.
#pragma once

#include "ngx_module/pin.h"

namespace experiment::ngx {

// Makes the record of a fresh enrolment. Where 20 records or 512 characters are full, the oldest record goes that no
// reward can reach any more (sealed epoch, or an experiment that is gone). False: there is none to go, the unit cannot
// be enrolled. Requires: cookie_records() gave some, decision.epoch is not 0.
bool remember(Pin& pin, const Decision& decision, const UnitValue& unit) noexcept;
// This request's unit's record of an experiment; nullptr: it has none.
shared::CookieRecord* record_of(ngx_http_request_t* r, Pin& pin, const PlanExperiment& experiment) noexcept;
// Adds Set-Cookie for what changed. Returns: whether it did.
bool set_cookies(ngx_http_request_t* r, Pin& pin) noexcept;

}  // namespace experiment::ngx
