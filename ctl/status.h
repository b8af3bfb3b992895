// experimentctl status: what the experiments are doing, and which edges have applied it.
#pragma once

#include <string>

#include "ctl/state.h"

namespace experiment::ctl {

// `key`: one experiment, or empty for all. Returns an exit code.
int status(const std::string& key, State& state);
// The same again every two seconds, until it is interrupted or there is no such experiment.
int watch(const std::string& key, State& state);

}  // namespace experiment::ctl
