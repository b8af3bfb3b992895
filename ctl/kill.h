// experimentctl kill: takes an experiment, a variant or everything out, at once and until `resume`.
#pragma once

#include <string>

#include "ctl/output.h"
#include "ctl/target.h"

namespace experiment::ctl {

// Recorded on the disk when this returns kOk; nodes on this directory follow within their poll. Returns an exit code.
int kill(const Target& target, const std::string& reason, const std::string& directory, Output& output);

}  // namespace experiment::ctl
