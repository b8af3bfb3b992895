#include "ctl/document_changes.h"

#include <cstdio>
#include <map>
#include <string_view>
#include <utility>

#include "bandit/slot_table.h"
#include "ctl/output.h"
#include "ctl/summary.h"
#include "ctl/target.h"
#include "shared/reconcile.h"

namespace experiment::ctl {
namespace {

using bandit::Desired;
using bandit::Experiment;
using shared::ExperimentRuntime;
using shared::Kill;
using shared::ParsedDocument;
using shared::Runtime;

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f %%", 100 * share);
  return text;
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

bool shows_variants(Desired desired) {
  return desired == Desired::kRunning || desired == Desired::kFrozen || desired == Desired::kConcluded;
}

std::optional<bandit::SlotTable> table_of(const ExperimentRuntime& state) {
  if (state.epochs.empty()) return std::nullopt;
  return bandit::decode_runs(state.runs, static_cast<int>(state.epochs.back().quotas.size()));
}

// Variants of two states by number: equal names, equal numbers.
class Names {
 public:
  int of(const ExperimentRuntime& state, std::uint8_t arm) {
    return numbers_.try_emplace(state.arms[arm], static_cast<int>(numbers_.size())).first->second;
  }

 private:
  std::map<std::string, int> numbers_;
};

// Slot by slot where units keep their slots, else by chance.
std::optional<double> moved_share(const Experiment& before, const ExperimentRuntime& from, const Experiment& after,
                                  const ExperimentRuntime& to) {
  const auto old_table = table_of(from), new_table = table_of(to);
  if (!old_table || !new_table) return std::nullopt;
  Names names;
  const bool same_draw = before.salt == after.salt && before.unit == after.unit;
  std::map<int, double> old_shares, new_shares;
  int moved = 0;
  double stays = 0;
  for (std::size_t slot = 0; slot < old_table->size(); ++slot) {
    const int was = names.of(from, (*old_table)[slot]), is = names.of(to, (*new_table)[slot]);
    moved += was != is ? 1 : 0;
    old_shares[was] += 1.0 / bandit::kSlots;
    new_shares[is] += 1.0 / bandit::kSlots;
  }
  if (same_draw) return static_cast<double>(moved) / bandit::kSlots;
  for (const auto& [name, share] : old_shares) stays += share * new_shares[name];
  return 1 - stays;
}

std::string shares_text(const ExperimentRuntime& state) {
  std::string text;
  if (state.epochs.empty()) return text;
  const std::vector<int>& quotas = state.epochs.back().quotas;
  for (std::size_t arm = 0; arm < quotas.size(); ++arm) {
    text +=
        (text.empty() ? "" : ", ") + state.arms[arm] + " " + percent(static_cast<double>(quotas[arm]) / bandit::kSlots);
  }
  return text;
}

// As nodes say it in their logs, but for ids that nobody will see.
std::string effect_of(const std::string& what) {
  if (what.compare(0, 6, "epoch ") == 0) return "new epoch" + what.substr(what.find(':'));
  if (what.compare(0, 11, "generation ") == 0) return "new " + what + ", it begins anew";
  if (what.compare(0, 9, "revision ") == 0) return what + ", its pages are cached anew";
  return what;
}

std::string ending_text(const Experiment& experiment) {
  return "everyone gets " + experiment.winner +
         (experiment.holdback > 0 ? ", but for a holdback of " + percent(experiment.holdback) : std::string());
}

std::vector<std::string> differences(const Experiment& before, const Experiment& after) {
  std::vector<std::string> effects;
  if (before.desired != after.desired) {
    effects.push_back(desired_text(before.desired) + " -> " + desired_text(after.desired));
  }
  const bool ends_otherwise =
      before.desired != after.desired || before.winner != after.winner || before.holdback != after.holdback;
  if (after.desired == Desired::kConcluded && ends_otherwise) effects.push_back(ending_text(after));
  if (before.traffic != after.traffic) {
    effects.push_back("traffic " + number(before.traffic) + " -> " + number(after.traffic));
  }
  return effects;
}

std::map<std::string_view, std::size_t> index_of(const ParsedDocument& parsed) {
  std::map<std::string_view, std::size_t> index;
  for (std::size_t i = 0; i < parsed.document.experiments.size(); ++i) index[parsed.document.experiments[i].key] = i;
  return index;
}

// The state that nodes have or are about to have.
const ExperimentRuntime& state_of(const Runtime& runtime, const std::string& key) {
  static const ExperimentRuntime kNone;
  const auto found = runtime.experiments.find(key);
  return found == runtime.experiments.end() ? kNone : found->second;
}

class Comparison {
 public:
  Comparison(const ParsedDocument& before, const ParsedDocument& after, const Runtime& runtime, std::int64_t now_ms)
      : before_(before), after_(after), now_(runtime) {
    const shared::RandomBits no_chance = [] { return std::uint64_t{0}; };
    shared::reconcile(before.document, now_, now_ms, no_chance);
    next_ = now_;
    for (const shared::Change& change : shared::reconcile(after.document, next_, now_ms, no_chance)) {
      effects_[change.experiment].push_back(effect_of(change.what));
    }
  }

  std::vector<ExperimentChange> run() {
    std::vector<ExperimentChange> changes;
    const auto known = index_of(before_), kept = index_of(after_);
    for (std::size_t i = 0; i < after_.document.experiments.size(); ++i) {
      const Experiment& experiment = after_.document.experiments[i];
      const auto place = known.find(experiment.key);
      if (place != known.end() && before_.canonical[place->second] == after_.canonical[i]) continue;
      changes.push_back(place == known.end() ? added(experiment)
                                             : changed(before_.document.experiments[place->second], experiment));
      if (experiment.not_in_build.empty()) continue;
      changes.back().effects = {"off, " + experiment.not_in_build + " is not in this build"};
    }
    for (const Experiment& experiment : before_.document.experiments) {
      if (kept.count(experiment.key) != 0) continue;
      changes.push_back({ExperimentChange::Kind::kRemoved, experiment.key, {"it stops, its results stay"}, {}});
    }
    return changes;
  }

 private:
  ExperimentChange added(const Experiment& experiment) const {
    ExperimentChange change{ExperimentChange::Kind::kNew, experiment.key, {desired_text(experiment.desired)}, {}};
    if (experiment.desired == Desired::kConcluded) change.effects.push_back(ending_text(experiment));
    const std::string shares = shares_text(state_of(next_, experiment.key));
    if (experiment.desired == Desired::kRunning && !shares.empty()) change.effects.push_back(shares);
    return change;
  }

  ExperimentChange changed(const Experiment& before, const Experiment& after) {
    ExperimentChange change{ExperimentChange::Kind::kChanged, after.key, differences(before, after), {}};
    for (std::string& effect : effects_[after.key]) change.effects.push_back(std::move(effect));
    if (change.effects.empty()) change.effects.emplace_back("holds from the next request on");
    change.moves = moved_share(before, state_of(now_, after.key), after, state_of(next_, after.key));
    return change;
  }

  const ParsedDocument &before_, &after_;
  Runtime now_, next_;
  std::map<std::string, std::vector<std::string>> effects_;
};

}  // namespace

std::vector<ExperimentChange> changes_between(const ParsedDocument& before, const ParsedDocument& after,
                                              const Runtime& runtime, std::int64_t now_ms) {
  return Comparison(before, after, runtime, now_ms).run();
}

std::vector<StandingKill> stays_killed(const bandit::Document& document, const Runtime& runtime,
                                       const std::string& key) {
  std::vector<StandingKill> kills;
  bool wanted = false;
  for (const Experiment& experiment : document.experiments) {
    if (!shows_variants(experiment.desired) || (!key.empty() && experiment.key != key)) continue;
    wanted = true;
    for (const Kill& kill : state_of(runtime, experiment.key).kills) {
      bool concerns = kill.variant.empty();
      for (const auto& variant : experiment.variants) concerns = concerns || variant.key == kill.variant;
      if (kill.stands() && concerns) kills.push_back({name_of({false, experiment.key, kill.variant}), kill});
    }
  }
  for (const Kill& kill : runtime.kill_all) {
    if (wanted && kill.stands()) kills.insert(kills.begin(), {name_of({true, {}, {}}), kill});
  }
  return kills;
}

std::string to_text(const std::vector<ExperimentChange>& changes) {
  std::string text;
  for (const ExperimentChange& change : changes) {
    text += change.kind == ExperimentChange::Kind::kNew       ? "new      "
            : change.kind == ExperimentChange::Kind::kChanged ? "changed  "
                                                              : "removed  ";
    text += change.key + ": ";
    for (std::size_t i = 0; i < change.effects.size(); ++i) text += (i == 0 ? "" : "; ") + change.effects[i];
    if (change.moves && *change.moves > 0)
      text += "; " + percent(*change.moves) + " of the units without a cookie move";
    text += "\n";
  }
  return text.empty() ? "no experiment changes\n" : text;
}

std::string to_text(const std::vector<StandingKill>& kills) {
  std::string text;
  for (const StandingKill& standing : kills) {
    const std::string argument = standing.target == "everything" ? "--all" : standing.target;
    text += standing.target + " stays killed, by " + standing.kill.by + " at " + time_text(standing.kill.at_s) + ": " +
            standing.kill.reason + "; only \"experimentctl resume " + argument + "\" lifts it\n";
  }
  return text;
}

nlohmann::json to_json(const std::vector<ExperimentChange>& changes) {
  nlohmann::json out = nlohmann::json::array();
  for (const ExperimentChange& change : changes) {
    const char* kind = change.kind == ExperimentChange::Kind::kNew       ? "new"
                       : change.kind == ExperimentChange::Kind::kChanged ? "changed"
                                                                         : "removed";
    out.push_back({{"key", change.key},
                   {"change", kind},
                   {"effects", change.effects},
                   {"moves", change.moves ? nlohmann::json(*change.moves) : nlohmann::json()}});
  }
  return out;
}

nlohmann::json to_json(const std::vector<StandingKill>& kills) {
  nlohmann::json out = nlohmann::json::array();
  for (const StandingKill& standing : kills) {
    out.push_back({{"target", standing.target},
                   {"by", standing.kill.by},
                   {"at", time_text(standing.kill.at_s)},
                   {"reason", standing.kill.reason}});
  }
  return out;
}

}  // namespace experiment::ctl
