// experimentctl reset: an experiment begins anew as another generation, for everybody.
#pragma once

#include <string>

#include "ctl/state.h"

namespace experiment::ctl {

// Returns an exit code; kNothing: it has not run since its generation began.
int reset(const std::string& key, const std::string& reason, State& state);

}  // namespace experiment::ctl
