// What doctor looks at in the servers of a fleet: versions, what they do when memory or the power is gone, the library,
// clocks, latency, rights.
#pragma once

#include <string>
#include <vector>

#include "ctl/finding.h"
#include "ctl/open_store.h"

namespace experiment::ctl {

// `load`: puts this version of the library on every master first.
std::vector<Finding> examine_redis(const StoreArguments& arguments, bool load);

}  // namespace experiment::ctl
