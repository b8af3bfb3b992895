// experimentctl check FILE: would a node accept this document, and does an edge apply what it defines?
#pragma once

#include <string>

#include "ctl/output.h"
#include "ctl/state.h"

namespace experiment::ctl {

// `file`: a path, or - for standard input. `state`: whose edges' placements it is compared with; nullptr: none.
// Returns an exit code.
int check(const std::string& file, State* state, Output& output);

}  // namespace experiment::ctl
