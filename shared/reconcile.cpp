#include "shared/reconcile.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

#include "bandit/epoch.h"
#include "shared/zone_layout.h"

namespace experiment::shared {
namespace {

using bandit::Desired;
using bandit::Experiment;

void append(std::string& text, std::string_view part) {
  text.append(part);
  text.push_back('\0');
}

// What makes a new generation besides its goals: salt, unit, control, baseline.
std::uint64_t generation_signature(const Experiment& experiment) {
  std::string text;
  append(text, experiment.salt);
  append(text, experiment.unit);
  append(text, experiment.variants[experiment.control].key);
  append(text, std::to_string(experiment.policy.baseline));
  return XXH3_64bits(text.data(), text.size());
}

// What a cached page depends on: variants and payloads, not weights.
std::uint64_t revision_signature(const Experiment& experiment) {
  std::string text;
  for (const auto& variant : experiment.variants) {
    append(text, variant.key);
    append(text, variant.payload);
  }
  return XXH3_64bits(text.data(), text.size());
}

GoalRecord record_of(const bandit::Goal& goal) {
  return {goal.key, goal.kind, goal.per, goal.scale, goal.max};
}

bool same_counting(const GoalRecord& a, const GoalRecord& b) {
  if (a.kind != b.kind) return false;
  return a.kind == bandit::GoalKind::kConversion || (a.per == b.per && a.scale == b.scale && a.max == b.max);
}

// Why this definition cannot go on in the same generation; empty: it can.
std::string generation_change(const Experiment& experiment, const ExperimentRuntime& state) {
  if (state.generation_signature != generation_signature(experiment)) return "salt, unit, control or baseline changed";
  std::size_t new_goals = 0, new_arms = 0;
  for (const auto& goal : experiment.goals) {
    auto known = std::find_if(state.goals.begin(), state.goals.end(), [&](const auto& g) { return g.key == goal.key; });
    if (known == state.goals.end()) {
      ++new_goals;
    } else if (!same_counting(*known, record_of(goal))) {
      return "goal \"" + goal.key + "\" changed its kind or max";
    }
  }
  for (const auto& variant : experiment.variants) new_arms += arm_of(state, variant.key) < 0;
  if (state.goals.size() + new_goals > bandit::kMaxGoals) return "more goals than a generation can number";
  if (state.arms.size() + new_arms > bandit::kMaxArms) return "more variants than a generation can number";
  return {};
}

std::vector<std::string> keys_of(const std::vector<bandit::Variant>& variants) {
  std::vector<std::string> keys;
  for (const auto& variant : variants) keys.push_back(variant.key);
  return keys;
}

// Whether arms and goals are numbered as the definition lists them.
bool numbered_as_listed(const Experiment& experiment, const ExperimentRuntime& state) {
  auto same = [](const bandit::Goal& goal, const GoalRecord& record) {
    return goal.key == record.key && same_counting(record_of(goal), record);
  };
  return state.arms == keys_of(experiment.variants) &&
         std::equal(experiment.goals.begin(), experiment.goals.end(), state.goals.begin(), state.goals.end(), same);
}

void forget_generation(ExperimentRuntime& state) {
  state.arms.clear();
  state.goals.clear();
  state.epochs.clear();
  state.runs.clear();
  state.started_ms = 0;
}

void begin_generation(const Experiment& experiment, ExperimentRuntime& state) {
  state.generation_signature = generation_signature(experiment);
  forget_generation(state);
}

class Reconciler {
 public:
  Reconciler(Runtime& runtime, std::int64_t now_ms, const RandomBits& random)
      : runtime_(runtime), now_ms_(now_ms), random_(random) {}

  void run(const Experiment& experiment) {
    auto [place, fresh] = runtime_.experiments.try_emplace(experiment.key);
    ExperimentRuntime& state = place->second;
    if (fresh) note(experiment, "first seen");
    number(experiment, state);
    seal(experiment, state);
    if (experiment.desired == Desired::kRunning) ensure_epoch(experiment, state);
  }

  std::vector<Change> take() { return std::move(changes_); }

 private:
  void note(const Experiment& experiment, std::string what) { changes_.push_back({experiment.key, std::move(what)}); }

  void number(const Experiment& experiment, ExperimentRuntime& state) {
    bool shown = !state.epochs.empty();
    if (!shown) {
      // Nobody has a number yet: they follow the definition, so that the first table is contiguous in its order.
      if (state.generation_signature != generation_signature(experiment) || !numbered_as_listed(experiment, state)) {
        begin_generation(experiment, state);
        if (state.revision_signature != 0) note(experiment, "redefined before it ran");
      }
    } else if (std::string why = generation_change(experiment, state); !why.empty()) {
      begin_generation(experiment, state);
      ++state.generation;
      ++state.revision;
      note(experiment, "generation " + std::to_string(state.generation) + ": " + why);
    }
    for (const auto& variant : experiment.variants) {
      if (arm_of(state, variant.key) >= 0) continue;
      state.arms.push_back(variant.key);
      note(experiment, "variant \"" + variant.key + "\" is arm " + std::to_string(state.arms.size() - 1));
    }
    for (const auto& goal : experiment.goals) {
      auto same_key = [&](const auto& g) { return g.key == goal.key; };
      if (std::any_of(state.goals.begin(), state.goals.end(), same_key)) continue;
      state.goals.push_back(record_of(goal));
      note(experiment, "goal \"" + goal.key + "\" is goal " + std::to_string(state.goals.size() - 1));
    }
    std::uint64_t signature = revision_signature(experiment);
    if (state.revision_signature == signature) return;
    if (shown && state.revision_signature != 0 && !state.epochs.empty()) {
      ++state.revision;
      note(experiment, "revision " + std::to_string(state.revision) + ": variants or payloads changed");
    } else if (changes_.empty() || changes_.back().experiment != experiment.key) {
      note(experiment, "redefined before it ran");
    }
    state.revision_signature = signature;
  }

  void seal(const Experiment& experiment, ExperimentRuntime& state) {
    std::int64_t window = reward_window_ms(experiment);
    for (auto& epoch : state.epochs) {
      if (epoch.ended_ms == 0 || epoch.sealed || now_ms_ < epoch.ended_ms + window) continue;
      epoch.sealed = true;
      note(experiment, "epoch " + std::to_string(epoch.id) + " sealed");
    }
  }

  // An epoch for the first run, and one for every change that later counts must not be mixed with.
  void ensure_epoch(const Experiment& experiment, ExperimentRuntime& state) {
    std::vector<double> weights = declared_weights(experiment, state);
    std::string why = epoch_change(experiment, state, weights);
    if (ring_full(state)) return;  // the current one goes on until an epoch is sealed
    if (why.empty() || !start_epoch(state, weights, now_ms_, random_())) return;
    note(experiment, "epoch " + std::to_string(state.epochs.back().id) + ": " + why);
  }

  // Sets the weights that the new epoch starts with when an adaptive experiment has moved them already.
  std::string epoch_change(const Experiment& experiment, const ExperimentRuntime& state, std::vector<double>& weights) {
    if (state.epochs.empty()) return "first allocation";
    const EpochRecord& last = state.epochs.back();
    bool arms_differ = last.quotas.size() != state.arms.size();
    std::vector<double> current(state.arms.size(), 0);
    for (std::size_t a = 0; a < last.quotas.size(); ++a) current[a] = last.quotas[a];
    if (!experiment.policy.adaptive()) {
      auto quotas = bandit::quotas_of(weights);
      if (quotas && (arms_differ || *quotas != last.quotas)) return "weights changed";
    } else {
      // A variant that came or went resets the shares to the declared ones; otherwise what was learned stays. Without a
      // floor a share of nothing is something learned, too.
      for (std::size_t a = 0; a < weights.size(); ++a) {
        bool learned = a < last.quotas.size() && weights[a] > 0 && experiment.policy.floor * bandit::kSlots < 1;
        if ((weights[a] > 0) != (current[a] > 0) && !learned && !killed(state, a))
          return "variants with weight changed";
      }
    }
    if (last.goals == static_cast<int>(state.goals.size())) return {};
    weights = current;
    return "goals added";
  }

  static bool killed(const ExperimentRuntime& state, std::size_t arm) { return (kill_mask(state) >> arm & 1) != 0; }

  Runtime& runtime_;
  std::int64_t now_ms_;
  const RandomBits& random_;
  std::vector<Change> changes_;
};

}  // namespace

std::vector<Change> reconcile(const bandit::Document& document, Runtime& runtime, std::int64_t now_ms,
                              const RandomBits& random) {
  Reconciler reconciler(runtime, now_ms, random);
  for (const auto& experiment : document.experiments) {
    if (experiment.not_in_build.empty()) reconciler.run(experiment);
  }
  return reconciler.take();
}

void reset_generation(ExperimentRuntime& state) {
  forget_generation(state);
  ++state.generation;
  ++state.revision;
}

bool ring_full(const ExperimentRuntime& state) {
  auto unsealed = std::count_if(state.epochs.begin(), state.epochs.end(), [](const auto& e) { return !e.sealed; });
  return !bandit::may_start(static_cast<int>(unsealed));
}

std::vector<double> declared_weights(const bandit::Experiment& experiment, const ExperimentRuntime& state) {
  std::vector<double> weights(state.arms.size(), 0);
  for (const auto& variant : experiment.variants) {
    if (int arm = arm_of(state, variant.key); arm >= 0) weights[static_cast<std::size_t>(arm)] = variant.weight;
  }
  return weights;
}

bool start_epoch(ExperimentRuntime& state, const std::vector<double>& weights, std::int64_t now_ms,
                 std::uint64_t random_bits) {
  auto quotas = bandit::quotas_of(weights);
  if (!quotas) return false;
  int arms = static_cast<int>(quotas->size());
  bandit::SlotTable table = bandit::contiguous_table(*quotas);
  std::uint64_t last_id = state.epochs.empty() ? 0 : state.epochs.back().id;
  auto id = bandit::next_epoch_id(last_id, static_cast<std::uint32_t>(random_bits));
  if (!id) return false;
  if (!state.epochs.empty()) {
    if (auto before = bandit::decode_runs(state.runs, arms)) table = bandit::moved_table(*before, *quotas);
    state.epochs.back().ended_ms = now_ms;
  } else {
    state.started_ms = now_ms;
  }
  EpochRecord epoch;
  epoch.id = *id;
  epoch.started_ms = now_ms;
  epoch.quotas = *quotas;
  epoch.goals = static_cast<int>(state.goals.size());
  state.epochs.push_back(std::move(epoch));
  state.runs = bandit::encode_runs(table);
  return true;
}

int arm_of(const ExperimentRuntime& state, std::string_view variant) {
  auto place = std::find(state.arms.begin(), state.arms.end(), variant);
  return place == state.arms.end() ? -1 : static_cast<int>(place - state.arms.begin());
}

std::int64_t reward_window_ms(const bandit::Experiment& experiment) {
  std::int64_t window = 0;
  for (const auto& goal : experiment.goals) window = std::max<std::int64_t>(window, goal.window_s * std::int64_t{1000});
  return window;
}

std::uint32_t kill_mask(const ExperimentRuntime& state) {
  std::uint32_t mask = 0;
  for (const auto& kill : state.kills) {
    if (!kill.stands()) continue;
    if (kill.variant.empty()) {
      mask |= kMaskExperiment;
    } else if (int arm = arm_of(state, kill.variant); arm >= 0) {
      mask |= 1U << arm;
    }
  }
  return mask;
}

}  // namespace experiment::shared
