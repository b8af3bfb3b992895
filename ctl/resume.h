// experimentctl resume: lifts what kill, a kill file or a rollback recorded for exactly this target.
#pragma once

#include <string>

#include "ctl/state.h"
#include "ctl/target.h"

namespace experiment::ctl {

// Refuses while a line for the target stands in a kill file that made one of its kills. Returns an exit code.
int resume(const Target& target, const std::string& reason, State& state);

}  // namespace experiment::ctl
