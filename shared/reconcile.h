// Brings the runtime state in line with a document: generations, revisions, arm and goal numbers, first epochs, epochs
// for new weights.
//
// Pure: time and randomness are arguments. Run by the leader whenever the document or the runtime changed, and by
// nobody else; running it twice changes nothing the second time, so two leaders that see the same state agree.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bandit/definition.h"
#include "shared/runtime.h"

namespace experiment::shared {

using RandomBits = std::function<std::uint64_t()>;

struct Change {
  std::string experiment;
  std::string what;  // "generation 2: salt changed", "epoch 7: weights changed"
};

// Returns what was changed in `runtime`; empty: nothing was.
std::vector<Change> reconcile(const bandit::Document& document, Runtime& runtime, std::int64_t now_ms,
                              const RandomBits& random);

// Begins a generation by hand: numbers, table, epochs and what visitors hold begin anew with the next reconcile().
// Kills stay. Requires: the state has epochs; otherwise there is nothing to begin anew.
void reset_generation(ExperimentRuntime& state);
// Weights by arm number: the document's, 0 for variants that it dropped.
std::vector<double> declared_weights(const bandit::Experiment& experiment, const ExperimentRuntime& state);
// Starts a new epoch with these weights, by least movement from the table before it. False: the weights make no table.
bool start_epoch(ExperimentRuntime& state, const std::vector<double>& weights, std::int64_t now_ms,
                 std::uint64_t random_bits);
// Whether a new epoch has to wait until one is sealed: what is open is never evicted.
bool ring_full(const ExperimentRuntime& state);
// Arm number of a variant, or -1.
int arm_of(const ExperimentRuntime& state, std::string_view variant);
// Longest goal window of the experiment in milliseconds: how long an epoch stays open behind its end.
std::int64_t reward_window_ms(const bandit::Experiment& experiment);
// Bits of the killed arms, and kMaskExperiment when the whole experiment is killed: by kills that stand.
std::uint32_t kill_mask(const ExperimentRuntime& state);

}  // namespace experiment::shared
