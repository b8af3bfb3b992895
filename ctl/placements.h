// Whether what a document defines is applied anywhere: its experiments and units against what the edges' configurations
// offer.
//
// Pure.
#pragma once

#include <string>
#include <vector>

#include "bandit/definition.h"
#include "ctl/edges.h"

namespace experiment::ctl {

// Lines; none where no edge has reported, since nobody knows then. Stopped and archived experiments need no place.
std::vector<std::string> unplaced(const bandit::Document& document, const std::vector<Edge>& edges);

}  // namespace experiment::ctl
