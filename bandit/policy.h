// From counts to the next weights: Thompson sampling as weights per epoch, w_a = P(a is best), with warm-up, floor and
// step limit.
//
// Drawing from the posterior at every request picks arm a with probability P(a is best), so fixed weights and a fair
// hash have the same law, are sticky and have known propensities (Scott 2010, ASMB 26:639-658, probability matching).
// Called by the allocator when an epoch may end. Pure functions, no locking; the same counts give the same weights on
// every node.
//
// The order of things:
// 1. Warm-up: the document's weights, until `for_s` has passed and every arm with weight has the exposures and the
//    successes. An arm that missed an epoch is a newcomer (added later, or resumed) and keeps nobody else waiting.
// 2. Epochs that ended at least `learn_window_s` ago enter, all of them where it is 0; their adjusted counts
//    (bandit/adjusted_counts) with a Beta(1,1) prior are the posteriors.
// 3. An arm of which too little entered would win by ignorance, as the prior's mean is 1/2. It waits at the warm-up
//    share 1/K until it has the warm-up's counts itself, and the others share the rest by P(best).
// 4. Floor: w = f + (1 - K f) p, uniform where K f >= 1. Clipping and renormalising would leave less than f.
// 5. Step limit: along the straight line from the current weights, at most that total-variation distance.
// Arms without weight get exactly 0 at once, whatever the step limit says: a rolled back arm must be empty now.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "bandit/definition.h"

namespace experiment::bandit {

// An arm that took part in that many epochs is warm whatever its counts say: they may have left with epochs that the
// ring dropped. Far above what a warm-up sees, as its epoch is prolonged, and far below the ring's 72.
inline constexpr int kEstablishedEpochs = 16;

// One epoch's counts of the policy's goal by arm, without the baseline row. An arm beyond the end, or with n = 0, was
// not in the epoch.
struct EpochCounts {
  double age_of_end_s = 0;       // 0: current
  std::vector<std::uint64_t> n;  // exposed units
  std::vector<std::uint64_t> s;  // of these, units with a reward
};

enum class Phase : std::uint8_t {
  kWarmingUp,  // the document's weights
  kLearning,   // weights from posteriors
  kHeld        // an input was not usable: the weights stay
};
// "warming_up", "learning", "held".
std::string_view phase_token(Phase phase) noexcept;

struct Decision {
  std::vector<double> weights;  // by arm, sums to 1; all zero only when no arm has weight
  Phase phase = Phase::kHeld;
  std::vector<double> p_best;  // learning: P(best) among the arms that share by it, 0 for others; else empty
};

// Whether the experiment is in its warm-up (1 above), by all counts, the current epoch's included. The current epoch is
// prolonged then: CurrentEpoch::warming_up of bandit/epoch. Arguments as in thompson().
bool warming_up(const Policy& policy, const std::vector<double>& declared_weights,
                const std::vector<EpochCounts>& epochs, double elapsed_s);

// The next weights. `smaller_is_better` is the goal's; `declared_weights` are the document's on any scale, 0 for arms
// without weight (killed, dropped or weightless), and say how many arms there are; `current_weights` are those of the
// current epoch, empty before the first; `epochs` are those of this generation in any order; `elapsed_s` is the time
// since the first of them began. Anything not finite or negative: the current weights of the arms with weight, phase
// held.
Decision thompson(const Policy& policy, bool smaller_is_better, const std::vector<double>& declared_weights,
                  const std::vector<double>& current_weights, const std::vector<EpochCounts>& epochs, double elapsed_s);

// w_a = f + (1 - K f) p_a over the K arms with weight, 0 elsewhere; uniform over them when K f >= 1. Every arm keeps at
// least f, and the order stays. Requires: p >= 0 sums to 1 over the arms with weight; a negative floor counts as none.
std::vector<double> apply_floor(const std::vector<double>& p, const std::vector<bool>& has_weight, double floor);

// The point on the line from `from` to `to` at total-variation distance `limit`, or `to` where that is nearer. Total
// variation is sum |to - from| / 2. Requires: equal lengths.
std::vector<double> limit_step(const std::vector<double>& from, const std::vector<double>& to, double limit);

}  // namespace experiment::bandit
