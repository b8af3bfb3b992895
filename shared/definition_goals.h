// The `goals` of an experiment: what counts as success, for how long, and in which money.
//
// Called by definition_experiment. No state, no locking.
#pragma once

#include "bandit/definition.h"
#include "shared/definition_node.h"
#include "shared/definition_warnings.h"

namespace experiment::shared {

// Fills experiment.goals from the experiment's node. Counts of a visitor (kind `count`) are kept as conversions and
// switch the experiment off: not in this build.
void read_goals(const Node& node, bandit::Experiment& experiment, Warnings& warnings);

}  // namespace experiment::shared
