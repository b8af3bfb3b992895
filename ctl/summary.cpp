#include "ctl/summary.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "shared/kills.h"

namespace experiment::ctl {

using shared::CounterKey;
using shared::CounterVector;
using shared::EpochRecord;
using shared::ExperimentRuntime;
using shared::Kill;

std::string desired_text(bandit::Desired desired) {
  switch (desired) {
    case bandit::Desired::kDraft:
      return "draft";
    case bandit::Desired::kRunning:
      return "running";
    case bandit::Desired::kFrozen:
      return "frozen";
    case bandit::Desired::kStopped:
      return "stopped";
    case bandit::Desired::kConcluded:
      return "concluded";
    case bandit::Desired::kArchived:
      return "archived";
  }
  return "?";
}

namespace {

RowTotals empty_row(const std::string& variant, const ExperimentRuntime& state) {
  RowTotals row;
  row.variant = variant;
  for (const shared::GoalRecord& goal : state.goals) {
    row.goals.push_back({goal.key, goal.kind == bandit::GoalKind::kValue, 0, 0});
  }
  return row;
}

// Adds row `row` of a vector, where each row has the columns of the first `goals` goals.
void add_row(RowTotals& into, const CounterVector& totals, std::size_t row, const ExperimentRuntime& state, int goals) {
  const std::size_t first = row * static_cast<std::size_t>(shared::columns_of(state.goals, goals));
  const auto total = [&](int column) {
    const std::size_t i = first + static_cast<std::size_t>(column);
    return i < totals.size() ? totals[i] : 0;  // an absent tail is zero
  };
  into.exposures += total(0);
  for (int g = 0; g < goals; ++g) {
    const int column = shared::column_of_goal(state.goals, g);
    GoalTotals& goal = into.goals[static_cast<std::size_t>(g)];
    goal.rewarded += total(column);
    if (goal.value) goal.sum += static_cast<double>(total(column + 1)) * std::pow(10.0, -int{state.goals[g].scale});
  }
}

void add_counts(Summary& out, const ExperimentRuntime& state, const shared::Counters& totals) {
  const CounterKey first{out.key, state.generation, 0};
  for (auto entry = totals.lower_bound(first); entry != totals.end(); ++entry) {
    if (entry->first.experiment != out.key || entry->first.generation != state.generation) break;
    const auto same_id = [&](const EpochRecord& epoch) { return epoch.id == entry->first.epoch; };
    const auto epoch = std::find_if(state.epochs.begin(), state.epochs.end(), same_id);
    if (epoch == state.epochs.end()) {
      ++out.skipped_vectors;
      continue;
    }
    add_row(out.baseline, entry->second, 0, state, epoch->goals);
    for (std::size_t arm = 0; arm < epoch->quotas.size(); ++arm) {
      add_row(out.variants[arm], entry->second, arm + 1, state, epoch->goals);
    }
  }
}

void add_runtime(Summary& out, const ExperimentRuntime& state) {
  out.generation = state.generation;
  out.revision = state.revision;
  std::copy_if(state.kills.begin(), state.kills.end(), std::back_inserter(out.kills),
               [](const Kill& kill) { return kill.stands(); });
  out.epochs = state.epochs.size();
  const auto is_open = [](const EpochRecord& epoch) { return !epoch.sealed; };
  out.open_epochs = static_cast<std::size_t>(std::count_if(state.epochs.begin(), state.epochs.end(), is_open));
  for (const std::string& arm : state.arms) out.variants.push_back(empty_row(arm, state));
  out.baseline = empty_row("", state);
  if (state.epochs.empty()) return;
  const EpochRecord& last = state.epochs.back();
  out.epoch = last.id;
  for (std::size_t arm = 0; arm < last.quotas.size(); ++arm) {
    out.variants[arm].share = static_cast<double>(last.quotas[arm]) / bandit::kSlots;
  }
}

Summary summarize_one(const std::string& key, const bandit::Experiment* experiment, const Snapshot& now) {
  Summary out;
  out.key = key;
  out.state = experiment == nullptr ? "not in the document" : desired_text(experiment->desired);
  if (experiment != nullptr && !experiment->not_in_build.empty()) {
    out.state = "off";
    out.why = experiment->not_in_build + ": not in this build";
  }
  const auto state = now.runtime.experiments.find(key);
  if (state != now.runtime.experiments.end()) {
    add_runtime(out, state->second);
    add_counts(out, state->second, now.totals);
  }
  if (out.variants.empty() && experiment != nullptr) {  // it never ran
    for (const bandit::Variant& variant : experiment->variants) out.variants.push_back(empty_row(variant.key, {}));
  }
  for (RowTotals& variant : out.variants) variant.killed = shared::find_standing(out.kills, variant.variant) != nullptr;
  const Kill* whole = shared::find_standing(now.runtime.kill_all, "");
  if (whole == nullptr) whole = shared::find_standing(out.kills, "");
  if (whole != nullptr) {
    out.state = "killed";
    out.why = whole->reason + " (by " + whole->by + " at " + time_text(whole->at_s) + ")";
  }
  return out;
}

}  // namespace

std::vector<Summary> summarize(const Snapshot& now) {
  std::vector<Summary> out;
  for (const bandit::Experiment& experiment : now.parsed.document.experiments) {
    out.push_back(summarize_one(experiment.key, &experiment, now));
  }
  for (const auto& [key, state] : now.runtime.experiments) {
    if (now.find(key) == nullptr) out.push_back(summarize_one(key, nullptr, now));
  }
  return out;
}

}  // namespace experiment::ctl
