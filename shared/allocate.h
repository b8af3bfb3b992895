// The allocator: when an adaptive experiment's epoch may end, turns its counts into the next epoch's table.
//
// Pure: time, randomness and totals are arguments. Run by the leader, one experiment at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bandit/definition.h"
#include "bandit/policy.h"
#include "shared/counters.h"
#include "shared/runtime.h"

namespace experiment::shared {

struct AllocationLook {
  bool new_epoch = false;
  bandit::Phase phase = bandit::Phase::kHeld;
  std::vector<double> p_best;  // by arm; empty while warming up
};

// `totals` are the fleet's, of at least this experiment. Starts a new epoch in `state` when the current one may end,
// there is room for one more unsealed epoch, and `may_publish`. Experiments that do not run, or are fixed, are left
// alone.
AllocationLook allocate(const bandit::Experiment& experiment, ExperimentRuntime& state, const Counters& totals,
                        std::int64_t now_ms, std::uint64_t random_bits, bool may_publish);

}  // namespace experiment::shared
