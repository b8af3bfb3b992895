#include "ctl/kill.h"

#include <algorithm>
#include <random>
#include <vector>

#include "ctl/author.h"
#include "shared/kills.h"

namespace experiment::ctl {
namespace {

using shared::Kill;

// Keys of the variants that the document or the runtime state knows.
std::vector<std::string> variants_of(const Snapshot& now, const std::string& key) {
  std::vector<std::string> variants;
  if (const bandit::Experiment* experiment = now.find(key)) {
    for (const bandit::Variant& variant : experiment->variants) variants.push_back(variant.key);
  }
  const auto state = now.runtime.experiments.find(key);
  if (state == now.runtime.experiments.end()) return variants;
  for (const std::string& arm : state->second.arms) {
    if (std::find(variants.begin(), variants.end(), arm) == variants.end()) variants.push_back(arm);
  }
  return variants;
}

int check_target(const Target& target, const Snapshot& now, Output& output) {
  if (target.all) return kOk;
  if (now.find(target.key) == nullptr) {
    output.warn("\"" + target.key +
                "\" is not in the document; recorded all the same, and it holds when it is published");
  }
  const std::vector<std::string> variants = variants_of(now, target.key);
  const bool known = std::find(variants.begin(), variants.end(), target.variant) != variants.end();
  if (target.variant.empty() || variants.empty() || known) return kOk;
  std::string list;
  for (const std::string& variant : variants) list += (list.empty() ? "" : ", ") + variant;
  return output.fail(kRefused, "\"" + target.key + "\" has no variant \"" + target.variant + "\", expected one of " +
                                   list + "; nothing was killed");
}

}  // namespace

int kill(const Target& target, const std::string& reason, State& state) {
  Kill wanted{target.variant, reason, author(), now_s()};
  std::random_device random;
  while (wanted.id == 0) wanted.id = std::uint64_t{random()} << 32 | random();
  Kill standing = wanted;
  bool recorded = false;
  Snapshot now;
  const int code = state.update(
      [&](Snapshot& snapshot, bool& changed) -> int {
        const int refused = check_target(target, snapshot, state.output());
        if (refused != kOk) return refused;
        std::vector<Kill>& kills =
            target.all ? snapshot.runtime.kill_all : snapshot.runtime.experiments[target.key].kills;
        const Kill* known = shared::find_standing(kills, target.variant);
        recorded = changed = known == nullptr;
        if (changed) {
          shared::prune_lifted(kills, wanted.at_s);
          kills.push_back(wanted);
        } else {
          standing = *known;
        }
        return kOk;
      },
      now);
  if (code != kOk) return code;
  if (recorded) state.record("kill", record_of(target), reason, {});
  const std::string text = recorded ? name_of(target) + ": killed\n"
                                    : name_of(target) + ": already killed by " + standing.by + " at " +
                                          time_text(standing.at_s) + ": " + standing.reason + "\n";
  return state.output().done(text, {{"target", name_of(target)},
                                    {"changed", recorded},
                                    {"runtime_version", now.runtime.version},
                                    {"by", standing.by},
                                    {"at", time_text(standing.at_s)},
                                    {"reason", standing.reason}});
}

}  // namespace experiment::ctl
