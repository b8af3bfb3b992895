// Rules of a document that concern several experiments: unique keys, layers that exist, one unit in a layer, slices
// that do not overlap.
//
// Called by definition_json after every experiment was read. No state, no locking.
#pragma once

#include "bandit/definition.h"
#include "shared/definition_node.h"

namespace experiment::shared {

// `experiments` and `layers` (absent: nullptr) are the arrays that `document` was read from, in the same order. Throws
// Refusal at the first fault.
void check_document(const bandit::Document& document, const Node& experiments, const Node* layers);

}  // namespace experiment::shared
