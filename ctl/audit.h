// experimentctl audit: who did what, newest first.
#pragma once

#include <cstddef>

#include "ctl/state.h"

namespace experiment::ctl {

int audit(std::size_t most, State& state);

}  // namespace experiment::ctl
