// Features that a definition may name and this build lacks: shapes are checked lightly, so that a document is not
// accepted today and refused by the build that has them; then the experiment is off, and a warning says so.
//
// Called by definition_experiment and definition_allocation. No state, no locking.
#pragma once

#include <string>
#include <string_view>

#include "bandit/definition.h"
#include "shared/definition_node.h"
#include "shared/definition_warnings.h"

namespace experiment::shared {

// Switches the experiment off because `place` asks for `feature`; the first feature found names the reason.
void mark_not_in_build(const Node& place, std::string_view feature, bandit::Experiment& experiment, Warnings& warnings);

// Members of an experiment that need a feature of their own: targeting, prerequisites, guardrails, rollout, starts,
// ends, at_end, hash.
void read_missing_features(const Node& node, bandit::Experiment& experiment, Warnings& warnings);

// The document's segments: an object of objects, used by targeting only.
void check_segments(const Node& segments);

}  // namespace experiment::shared
