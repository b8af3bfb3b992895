#include "ctl/reset.h"

#include "shared/reconcile.h"

namespace experiment::ctl {

int reset(const std::string& key, const std::string& reason, State& state) {
  std::uint32_t generation = 0;
  Snapshot now;
  const int code = state.update(
      [&](Snapshot& snapshot, bool& changed) -> int {
        const auto found = snapshot.runtime.experiments.find(key);
        if (found == snapshot.runtime.experiments.end() || found->second.epochs.empty()) {
          return state.output().fail(
              kNothing, "\"" + key + "\" has not run in " + state.place() + "; there is nothing to begin anew");
        }
        shared::reset_generation(found->second);
        generation = found->second.generation;
        changed = true;
        return kOk;
      },
      now);
  if (code != kOk) return code;
  const std::string detail = "generation " + std::to_string(generation - 1) + " -> " + std::to_string(generation);
  state.record("reset", key, reason, detail);
  return state.output().done(key + ": " + detail + "; counts begin anew, and visitors are drawn again\n",
                             {{"key", key}, {"generation", generation}, {"runtime_version", now.runtime.version}});
}

}  // namespace experiment::ctl
