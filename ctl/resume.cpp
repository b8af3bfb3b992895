#include "ctl/resume.h"

#include <cerrno>
#include <vector>

#include "ctl/author.h"
#include "shared/kill_file.h"
#include "shared/kills.h"
#include "shared/state_files.h"

namespace experiment::ctl {
namespace {

using shared::Kill;

constexpr std::size_t kMaxKillFileBytes = std::size_t{1} << 20;

// The kills of everything or of one experiment; nullptr for an experiment that nothing happened to.
std::vector<Kill>* kills_of(const Target& target, shared::Runtime& runtime) {
  if (target.all) return &runtime.kill_all;
  const auto state = runtime.experiments.find(target.key);
  return state == runtime.experiments.end() ? nullptr : &state->second.kills;
}

// A kill that would come back within a second must not look lifted.
int check_kill_file(const Target& target, const Kill& kill, Output& output) {
  const std::string path(shared::kill_file_of(kill.by));
  if (path.empty()) return kOk;
  const shared::FileText file = shared::read_file(path, kMaxKillFileBytes);
  if (file.stamp.error == ENOENT) return kOk;
  if (!file.error.empty()) {
    return output.fail(kRefused, file.error + "; it cannot be seen whether its line for " + name_of(target) +
                                     " still stands, nothing was lifted");
  }
  for (const shared::KillLine& line : shared::parse_kill_file(file.text).lines) {
    if (!shared::covers(line, target.key, target.variant)) continue;
    return output.fail(kRefused, path + ": line " + std::to_string(line.line) + " still kills " + name_of(target) +
                                     "; remove it first, nothing was lifted");
  }
  return kOk;
}

int nothing_to_lift(const Target& target, const std::vector<Kill>* kills, Output& output) {
  std::string killed;
  for (const Kill& kill : kills == nullptr ? std::vector<Kill>() : *kills) {
    if (!kill.stands()) continue;
    const std::string name = name_of({false, target.key, kill.variant});
    killed += (killed.empty() ? "; killed is " : ", ") + name;
  }
  return output.fail(kNothing, name_of(target) + " is not killed" + killed);
}

// What keeps the target off although its own kill is lifted.
void warn_of_the_rest(const Target& target, const shared::Runtime& runtime, Output& output) {
  if (!target.all && shared::any_stands(runtime.kill_all))
    output.warn("everything is still killed; resume --all lifts that");
  if (target.all) return;
  for (const Kill& kill : runtime.experiments.find(target.key)->second.kills) {
    if (!kill.stands()) continue;
    output.warn(name_of({false, target.key, kill.variant}) + " is still killed: " + kill.reason);
  }
}

}  // namespace

int resume(const Target& target, const std::string& reason, State& state) {
  const shared::Lift lift{author(), reason, now_s()};
  std::vector<Kill> lifted;
  Snapshot now;
  const int code = state.update(
      [&](Snapshot& snapshot, bool& changed) -> int {
        std::vector<Kill>* kills = kills_of(target, snapshot.runtime);
        if (kills != nullptr) lifted = shared::lift_kills(*kills, target.variant, lift);
        if (kills == nullptr || lifted.empty()) return nothing_to_lift(target, kills, state.output());
        for (const Kill& kill : lifted) {
          const int refused = check_kill_file(target, kill, state.output());
          if (refused != kOk) return refused;
        }
        shared::prune_lifted(*kills, lift.at_s);
        changed = true;
        return kOk;
      },
      now);
  if (code != kOk) return code;
  warn_of_the_rest(target, now.runtime, state.output());
  std::string text = name_of(target) + ": resumed (" + reason + ")\n", detail;
  nlohmann::json was = nlohmann::json::array();
  for (const Kill& kill : lifted) {
    const std::string by = "the kill by " + kill.by + " at " + time_text(kill.at_s) + ": " + kill.reason;
    text += "  lifted " + by + "\n";
    detail += (detail.empty() ? "" : "; ") + by;
    was.push_back({{"by", kill.by}, {"at", time_text(kill.at_s)}, {"reason", kill.reason}});
  }
  state.record("resume", record_of(target), reason, detail);
  return state.output().done(text, {{"target", name_of(target)},
                                    {"runtime_version", now.runtime.version},
                                    {"reason", reason},
                                    {"lifted", std::move(was)}});
}

}  // namespace experiment::ctl
