#include "shared/allocate.h"

#include <algorithm>

#include "bandit/epoch.h"
#include "shared/reconcile.h"

namespace experiment::shared {
namespace {

// Beyond that many epochs in a generation, each lasts at least 1/kManyEpochs of its age: the records stay bounded where
// short windows keep epochs from growing.
constexpr std::size_t kManyEpochs = 500;

// 0 where the clock was set back behind it: nothing is younger than now.
double seconds_since(std::int64_t then_ms, std::int64_t now_ms) {
  return static_cast<double>(std::max<std::int64_t>(0, now_ms - then_ms)) / 1000;
}

std::vector<bandit::EpochCounts> counts_of(const std::string& key, const ExperimentRuntime& state, int goal,
                                           const Counters& totals, std::int64_t now_ms) {
  std::vector<bandit::EpochCounts> epochs;
  for (const EpochRecord& record : state.epochs) {
    auto found = totals.find({key, state.generation, record.id});
    if (found == totals.end() || goal >= record.goals) continue;
    auto columns = static_cast<std::size_t>(columns_of(state.goals, record.goals));
    auto column = static_cast<std::size_t>(column_of_goal(state.goals, goal));
    const CounterVector& vector = found->second;
    auto at = [&](std::size_t i) { return i < vector.size() ? vector[i] : 0; };
    bandit::EpochCounts counts;
    counts.age_of_end_s = record.ended_ms == 0 ? 0 : seconds_since(record.ended_ms, now_ms);
    for (std::size_t arm = 0; arm < record.quotas.size(); ++arm) {
      counts.n.push_back(at((1 + arm) * columns));
      counts.s.push_back(std::min(at((1 + arm) * columns + column), counts.n.back()));
    }
    epochs.push_back(std::move(counts));
  }
  return epochs;
}

std::uint64_t exposures_in(const std::string& key, const ExperimentRuntime& state, const Counters& totals) {
  const EpochRecord& current = state.epochs.back();
  auto found = totals.find({key, state.generation, current.id});
  if (found == totals.end()) return 0;
  auto columns = static_cast<std::size_t>(columns_of(state.goals, current.goals));
  std::uint64_t sum = 0;
  for (std::size_t i = columns; i < found->second.size(); i += columns) sum += found->second[i];
  return sum;
}

std::int64_t length_ms(const bandit::Experiment& experiment, const ExperimentRuntime& state, std::int64_t now_ms) {
  std::int64_t last = 0;
  if (state.epochs.size() > 1) {
    const EpochRecord& before = state.epochs[state.epochs.size() - 2];
    last = before.ended_ms - before.started_ms;
  }
  std::int64_t length =
      bandit::epoch_length_ms(last, experiment.policy.min_epoch_s * std::int64_t{1000}, reward_window_ms(experiment));
  if (state.epochs.size() < kManyEpochs) return length;
  return std::max(length, (now_ms - state.started_ms) / static_cast<std::int64_t>(kManyEpochs));
}

}  // namespace

AllocationLook allocate(const bandit::Experiment& experiment, ExperimentRuntime& state, const Counters& totals,
                        std::int64_t now_ms, std::uint64_t random_bits, bool may_publish) {
  AllocationLook look;
  if (!experiment.policy.adaptive() || experiment.desired != bandit::Desired::kRunning || state.epochs.empty())
    return look;
  auto goal = std::find_if(experiment.goals.begin(), experiment.goals.end(),
                           [&](const auto& g) { return g.key == experiment.policy.goal; });
  auto number = std::find_if(state.goals.begin(), state.goals.end(),
                             [&](const auto& g) { return g.key == experiment.policy.goal; });
  if (goal == experiment.goals.end() || number == state.goals.end()) return look;

  auto epochs = counts_of(experiment.key, state, static_cast<int>(number - state.goals.begin()), totals, now_ms);
  std::vector<double> declared = declared_weights(experiment, state);
  std::uint32_t mask = kill_mask(state);
  for (std::size_t arm = 0; arm < declared.size(); ++arm) {
    if ((mask >> arm & 1) != 0) declared[arm] = 0;  // the slots of a killed arm go to the others
  }
  const EpochRecord& last = state.epochs.back();
  std::vector<double> current(last.quotas.begin(), last.quotas.end());
  current.resize(declared.size(), 0);
  for (double& weight : current) weight /= bandit::kSlots;
  double elapsed_s = seconds_since(state.started_ms, now_ms);
  auto next = bandit::thompson(experiment.policy, goal->smaller_is_better, declared, current, epochs, elapsed_s);
  look.phase = next.phase;
  look.p_best = next.p_best;

  bandit::CurrentEpoch epoch;
  epoch.age_ms = now_ms - last.started_ms;
  epoch.length_ms = length_ms(experiment, state, now_ms);
  epoch.exposures = exposures_in(experiment.key, state, totals);
  epoch.weights = current;
  epoch.warming_up = next.phase == bandit::Phase::kWarmingUp;
  // A killed arm's slots are given away at the next look, not when the epoch has enough exposures: its units see
  // nothing meanwhile.
  bool holds_killed = false;
  for (std::size_t arm = 0; arm < declared.size(); ++arm) holds_killed |= (mask >> arm & 1) != 0 && current[arm] > 0;
  if (!may_publish || next.phase == bandit::Phase::kHeld || ring_full(state)) return look;
  if (!holds_killed && !bandit::may_end(epoch)) return look;
  look.new_epoch = start_epoch(state, next.weights, now_ms, random_bits);
  return look;
}

}  // namespace experiment::shared
