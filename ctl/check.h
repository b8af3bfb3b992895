// experimentctl check FILE: would a node accept this document?
#pragma once

#include <string>

#include "ctl/output.h"

namespace experiment::ctl {

// `file`: a path, or - for standard input. Returns an exit code.
int check(const std::string& file, Output& output);

}  // namespace experiment::ctl
