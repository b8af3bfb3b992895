// The join of two copies of one runtime state: see shared/runtime.h for what it promises, and for whom.
//
// Of a generation's copies, the one with the higher last epoch id has seen more: numbers, and the table, are its.
// Epochs of the other may be wider than its numbers, where both sides numbered something new after they parted. Their
// arms and goals then get names that no key can have ("@2"): places without which the counts of those epochs could not
// be told apart. They are not part of what sides are compared by, and give way to whatever is numbered there later.
#include <algorithm>
#include <iterator>
#include <string>
#include <tuple>
#include <utility>

#include "shared/kills.h"
#include "shared/runtime.h"

namespace experiment::shared {
namespace {

constexpr char kPlaceMark = '@';

auto as_tuple(const GoalRecord& goal) {
  return std::tie(goal.key, goal.kind, goal.per, goal.scale, goal.max);
}

auto as_tuple(const EpochRecord& epoch) {
  return std::tie(epoch.id, epoch.started_ms, epoch.ended_ms, epoch.sealed, epoch.quotas, epoch.goals);
}

bool is_place(const std::string& name) {
  return !name.empty() && name.front() == kPlaceMark;
}

const std::string& name_of(const std::string& arm) {
  return arm;
}

const std::string& name_of(const GoalRecord& goal) {
  return goal.key;
}

void set_name(std::string& arm, std::string name) {
  arm = std::move(name);
}

void set_name(GoalRecord& goal, std::string name) {
  goal.key = std::move(name);
}

template <typename Item>
void drop_places(std::vector<Item>& list) {
  while (!list.empty() && is_place(name_of(list.back()))) list.pop_back();
}

template <typename Item>
void add_places(std::vector<Item>& list, std::size_t count) {
  for (std::size_t i = list.size(); i < count; ++i) set_name(list.emplace_back(), kPlaceMark + std::to_string(i));
}

std::uint64_t last_id(const ExperimentRuntime& state) {
  return state.epochs.empty() ? 0 : state.epochs.back().id;
}

std::int64_t earliest(std::int64_t a, std::int64_t b) {
  if (a == 0 || b == 0) return std::max(a, b);
  return std::min(a, b);
}

// Of two copies without places, what they are compared by. The longer list is the newer one, for numbers are only ever
// added; what follows only makes everybody choose alike.
auto arms_rank(const ExperimentRuntime& state) {
  return std::make_tuple(last_id(state), state.arms.size(), state.arms, state.generation_signature);
}

bool knows_fewer_goals(const ExperimentRuntime& a, const ExperimentRuntime& b) {
  const auto rank = [](const ExperimentRuntime& state) { return std::make_pair(last_id(state), state.goals.size()); };
  if (rank(a) != rank(b)) return rank(a) < rank(b);
  const auto before = [](const GoalRecord& x, const GoalRecord& y) { return as_tuple(x) < as_tuple(y); };
  return std::lexicographical_compare(a.goals.begin(), a.goals.end(), b.goals.begin(), b.goals.end(), before);
}

auto quotas_rank(const EpochRecord& epoch) {
  return std::make_pair(epoch.quotas.size(), epoch.quotas);
}

// Whose table is the newer one.
auto table_rank(const ExperimentRuntime& state) {
  const EpochRecord none;
  return std::make_tuple(last_id(state), quotas_rank(state.epochs.empty() ? none : state.epochs.back()), state.runs);
}

// Of two copies of one epoch.
void join_epoch(EpochRecord& into, const EpochRecord& from) {
  into.started_ms = earliest(into.started_ms, from.started_ms);
  into.ended_ms = earliest(into.ended_ms, from.ended_ms);
  into.sealed = into.sealed || from.sealed;
  into.goals = std::max(into.goals, from.goals);
  if (quotas_rank(into) < quotas_rank(from)) into.quotas = from.quotas;
}

std::vector<EpochRecord> join_epochs(const std::vector<EpochRecord>& a, const std::vector<EpochRecord>& b) {
  std::vector<EpochRecord> joined;
  const auto by_id = [](const EpochRecord& x, const EpochRecord& y) { return x.id < y.id; };
  std::merge(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(joined), by_id);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < joined.size(); ++i) {
    if (kept > 0 && joined[kept - 1].id == joined[i].id) {
      join_epoch(joined[kept - 1], joined[i]);
    } else if (kept++ != i) {
      joined[kept - 1] = std::move(joined[i]);
    }
  }
  joined.resize(kept);
  return joined;
}

// What has a successor assigns no more, nor did it after any later one began: the earliest of these ends, so that it is
// the same in whatever order copies meet.
void end_all_but_the_last(std::vector<EpochRecord>& epochs) {
  std::int64_t begun_ms = 0;
  for (auto epoch = epochs.rbegin(); epoch != epochs.rend(); ++epoch) {
    if (begun_ms != 0) epoch->ended_ms = earliest(epoch->ended_ms, std::max(epoch->started_ms, begun_ms));
    begun_ms = earliest(begun_ms, epoch->started_ms);
  }
}

void make_room(ExperimentRuntime& state) {
  std::size_t arms = 0;
  int goals = 0;
  for (const EpochRecord& epoch : state.epochs) {
    arms = std::max(arms, epoch.quotas.size());
    goals = std::max(goals, epoch.goals);
  }
  add_places(state.arms, arms);
  add_places(state.goals, static_cast<std::size_t>(goals));
}

ExperimentRuntime join_generation(ExperimentRuntime a, ExperimentRuntime b) {
  for (ExperimentRuntime* side : {&a, &b}) {
    drop_places(side->arms);
    drop_places(side->goals);
  }
  ExperimentRuntime joined;
  const ExperimentRuntime& arms = arms_rank(a) < arms_rank(b) ? b : a;
  const auto revision =
      std::max(std::make_pair(a.revision, a.revision_signature), std::make_pair(b.revision, b.revision_signature));
  joined.generation = a.generation;
  joined.generation_signature = arms.generation_signature;
  joined.revision = revision.first;
  joined.revision_signature = revision.second;
  joined.arms = arms.arms;
  joined.goals = (knows_fewer_goals(a, b) ? b : a).goals;
  joined.epochs = join_epochs(a.epochs, b.epochs);
  joined.runs = (table_rank(a) < table_rank(b) ? b : a).runs;
  joined.started_ms = earliest(a.started_ms, b.started_ms);
  make_room(joined);
  return joined;
}

ExperimentRuntime join_experiment(const ExperimentRuntime& a, const ExperimentRuntime& b) {
  ExperimentRuntime joined = a.generation == b.generation ? join_generation(a, b) : a.generation > b.generation ? a : b;
  joined.kills = a.kills;
  unite_kills(joined.kills, b.kills);
  return joined;
}

template <typename Item>
bool same_items(const std::vector<Item>& a, const std::vector<Item>& b) {
  const auto same = [](const Item& x, const Item& y) { return as_tuple(x) == as_tuple(y); };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

}  // namespace

Runtime join(const Runtime& a, const Runtime& b) {
  Runtime joined = a;
  joined.version = std::max(a.version, b.version);
  joined.document = std::max(a.document, b.document);
  unite_kills(joined.kill_all, b.kill_all);
  for (const auto& [key, experiment] : b.experiments) {
    auto [place, fresh] = joined.experiments.try_emplace(key, experiment);
    if (!fresh) place->second = join_experiment(place->second, experiment);
  }
  for (auto& [key, experiment] : joined.experiments) end_all_but_the_last(experiment.epochs);
  return joined;
}

bool operator==(const ExperimentRuntime& a, const ExperimentRuntime& b) {
  const auto values = [](const ExperimentRuntime& state) {
    return std::tie(state.generation, state.generation_signature, state.revision, state.revision_signature, state.arms,
                    state.runs, state.started_ms);
  };
  return values(a) == values(b) && same_items(a.goals, b.goals) && same_items(a.epochs, b.epochs) &&
         same_kills(a.kills, b.kills);
}

}  // namespace experiment::shared
