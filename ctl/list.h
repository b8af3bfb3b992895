// experimentctl list: a line for each experiment.
#pragma once

#include "ctl/state.h"

namespace experiment::ctl {

int list(State& state);

}  // namespace experiment::ctl
