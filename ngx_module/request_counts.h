// Counting requests by decision, arm, status, cache status and time: once each, when nginx has logged the request and
// frees it.
#pragma once

#include "ngx_module/pin.h"

namespace experiment::ngx {

// Counts the pin's request and lets go of its plan.
void release_pin(void* pin) noexcept;

}  // namespace experiment::ngx
