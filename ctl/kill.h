// experimentctl kill: takes an experiment, a variant or everything out, at once and until `resume`.
#pragma once

#include <string>

#include "ctl/state.h"
#include "ctl/target.h"

namespace experiment::ctl {

// In the store when this returns kOk; nodes follow within their poll. Returns an exit code.
int kill(const Target& target, const std::string& reason, State& state);

}  // namespace experiment::ctl
