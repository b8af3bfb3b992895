// experimentctl status: what the experiments of a state directory are doing.
#pragma once

#include <string>

#include "ctl/output.h"

namespace experiment::ctl {

// `key`: one experiment, or empty for all. Returns an exit code.
int status(const std::string& key, const std::string& directory, Output& output);

}  // namespace experiment::ctl
