#include "ctl/lifecycle.h"

#include <algorithm>
#include <utility>

#include "ctl/document_changes.h"
#include "ctl/edges.h"
#include "ctl/placements.h"

namespace experiment::ctl {
namespace {

constexpr int kAttempts = 20;
constexpr const char* kUnchanged = "; nothing was changed";

class Lifecycle {
 public:
  Lifecycle(const LifecycleOptions& options, State& state)
      : options_(options), state_(state), output_(state.output()) {}

  int run() {
    for (int attempt = 1; attempt <= kAttempts; ++attempt) {
      int code = state_.read(now_);
      if (code == kOk) code = check();
      if (code != kOk) return code;
      const std::string text = *edit_document(now_.stored.text, options_.key, options_.edit);
      if (text == now_.stored.text) return tell(now_.stored.version);
      shared::DefinitionError error;
      auto parsed = shared::parse_document(text, error);
      if (!parsed) return output_.fail(kRefused, "refused " + shared::describe(error) + kUnchanged);
      const shared::Published done = state_.publish(text, now_.stored.version);
      if (!done.error.empty()) return output_.fail(kUnreachable, done.error);
      if (done.conflict) continue;
      state_.record(options_.verb, options_.key, options_.reason, detail(done.version));
      now_.parsed = std::move(*parsed);
      return tell(done.version);
    }
    return output_.fail(kConflict, std::string("others publish all the time") + kUnchanged);
  }

 private:
  std::string detail(std::uint64_t after) const {
    return "definitions " + std::to_string(now_.stored.version) + " -> " + std::to_string(after);
  }

  int check() const {
    const std::string version = "definitions " + std::to_string(now_.stored.version);
    if (now_.stored.version == 0) return output_.fail(kNothing, state_.place() + ": no document" + kUnchanged);
    if (!now_.refusal.empty()) {
      return output_.fail(
          kRefused, version + " are refused by nodes " + now_.refusal + "; publish a good one first" + kUnchanged);
    }
    const bandit::Experiment* experiment = now_.find(options_.key);
    if (experiment == nullptr) {
      return output_.fail(kNothing, "no experiment \"" + options_.key + "\" in " + version + kUnchanged);
    }
    const auto state = now_.runtime.experiments.find(options_.key);
    const bool ran = state != now_.runtime.experiments.end() && !state->second.epochs.empty();
    const bool revives = options_.edit.desired == "running" || options_.edit.desired == "frozen";
    if (experiment->desired == bandit::Desired::kArchived && ran && revives) {
      return output_.fail(kRefused, "\"" + options_.key +
                                        "\" is archived, its key is free for a new generation only; " +
                                        "reset it first" + kUnchanged);
    }
    return check_winner(*experiment);
  }

  int check_winner(const bandit::Experiment& experiment) const {
    const std::string& winner = options_.edit.winner;
    const auto is_winner = [&](const bandit::Variant& variant) { return variant.key == winner; };
    const auto& variants = experiment.variants;
    if (winner.empty() || std::any_of(variants.begin(), variants.end(), is_winner)) return kOk;
    std::string list;
    for (const bandit::Variant& variant : variants) list += (list.empty() ? "" : ", ") + variant.key;
    return output_.fail(
        kRefused, "\"" + options_.key + "\" has no variant \"" + winner + "\", expected one of " + list + kUnchanged);
  }

  int tell(std::uint64_t after) const {
    const bandit::Experiment& experiment = *now_.find(options_.key);
    bandit::Document alone;
    alone.experiments.push_back(experiment);
    for (const std::string& line : unplaced(alone, read_edges(state_))) output_.warn(line);
    if (!experiment.not_in_build.empty()) {
      output_.warn("\"" + options_.key + "\" is off: " + experiment.not_in_build + " is not in this build");
    }
    const auto kills = stays_killed(now_.parsed.document, now_.runtime, options_.key);
    const bool changed = after != now_.stored.version;
    std::string text = options_.key + ": " + options_.edit.desired;
    if (!options_.edit.winner.empty()) text += ", everyone gets " + options_.edit.winner;
    text += changed ? " (" + detail(after) + ")\n" : ", as it was; nothing was changed\n";
    return output_.end(kills.empty() ? kOk : kStaysKilled, text + to_text(kills),
                       {{"key", options_.key},
                        {"desired", options_.edit.desired},
                        {"changed", changed},
                        {"version", after},
                        {"stays_killed", to_json(kills)}});
  }

  const LifecycleOptions& options_;
  State& state_;
  Output& output_;
  Snapshot now_;
};

}  // namespace

int change_desired(const LifecycleOptions& options, State& state) {
  return Lifecycle(options, state).run();
}

}  // namespace experiment::ctl
