// What doctor says of the edges' key rings: where a cookie of one edge is a forgery to another.
//
// Pure: made from what edges report.
#pragma once

#include <vector>

#include "ctl/edges.h"
#include "ctl/finding.h"

namespace experiment::ctl {

// Rings that differ while keys are rotated go to `notes`: nothing has to be changed.
std::vector<Finding> examine_rings(const std::vector<Edge>& edges, std::vector<Finding>& notes);

}  // namespace experiment::ctl
