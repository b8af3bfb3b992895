// One experiment of a definition document: its members, checked and with defaults filled in.
//
// Called by definition_json for each experiment of a document, and by workers that rebuild one from its canonical text.
// What concerns several experiments is in definition_checks. No state, no locking.
#pragma once

#include <string_view>

#include "bandit/definition.h"
#include "shared/definition_node.h"
#include "shared/definition_warnings.h"

namespace experiment::shared {

// Throws Refusal at the first fault. The layer is taken by name; whether it exists is not known here.
bandit::Experiment read_experiment(const Node& node, Warnings& warnings);
bandit::Layer read_layer(const Node& node, Warnings& warnings);

// Whether a member of an experiment takes part in what the edge does: false for names, owners and the like, and for
// unknown members.
bool is_effective_member(std::string_view member);

}  // namespace experiment::shared
