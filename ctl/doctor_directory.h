// What doctor looks at in a state directory beside what the Store says: owners, modes, evidence of damage, the key
// ring.
#pragma once

#include <string>
#include <vector>

#include "ctl/edges.h"
#include "ctl/finding.h"

namespace experiment::ctl {

std::vector<Finding> examine_directory(const std::string& directory, const std::vector<Edge>& edges);

}  // namespace experiment::ctl
