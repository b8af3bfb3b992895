// A file that a verb is given, or - for standard input.
#pragma once

#include <string>

#include "shared/state_files.h"

namespace experiment::ctl {

shared::FileText read_input(const std::string& file);

}  // namespace experiment::ctl
