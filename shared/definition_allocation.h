// The `allocation` of an experiment: which policy moves the weights, towards which goal, within which bounds.
//
// Called by definition_experiment after variants and goals were read. No state, no locking.
#pragma once

#include "bandit/definition.h"
#include "shared/definition_node.h"
#include "shared/definition_warnings.h"

namespace experiment::shared {

// Fills experiment.policy from the experiment's node, defaults included. Reads experiment.variants and
// experiment.goals.
void read_allocation(const Node& node, bandit::Experiment& experiment, Warnings& warnings);

}  // namespace experiment::shared
