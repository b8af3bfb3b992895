#include "shared/fleet_store.h"

#include <cstdio>
#include <exception>
#include <set>
#include <utility>

#include "shared/checked_json.h"
#include "shared/kills.h"

namespace experiment::shared {
namespace {

constexpr std::int64_t kReplayNs = std::int64_t{3600} * 1'000'000'000;
constexpr int kKeepPause = 20;  // times what writing runtime.json took: that of a thousand experiments has megabytes

// What must be on the disk at once.
std::string kills_of(const Runtime& runtime) {
  std::string text = encode_kills(runtime.kill_all);
  for (const auto& [key, state] : runtime.experiments) {
    if (!state.kills.empty()) text += key + encode_kills(state.kills);
  }
  return digest_text(text);
}

// Quoted keys and variants, separated by commas.
std::string standing_targets(const Runtime& runtime) {
  std::string text = any_stands(runtime.kill_all) ? "everything" : "";
  for (const auto& [key, state] : runtime.experiments) {
    std::set<std::string> targets;
    for (const Kill& kill : state.kills) {
      if (kill.stands()) targets.insert(kill.variant.empty() ? key : key + "/" + kill.variant);
    }
    for (const std::string& target : targets) text += (text.empty() ? "\"" : ", \"") + target + "\"";
  }
  return text;
}

void append(std::vector<std::string>& to, std::vector<std::string>& from) {
  for (std::string& line : from) to.push_back(std::move(line));
}

}  // namespace

FleetStore::FleetStore(std::unique_ptr<RedisStore> redis, std::string name, std::string directory,
                       const std::string& instance)
    : redis_(std::move(redis)),
      name_(std::move(name)),
      directory_(std::move(directory)),
      belongs_(directory_),
      documents_(directory_),
      runtime_(directory_),
      counters_(directory_, instance, CounterFiles::Gone::kKeep) {}

void FleetStore::begin(Answer& answer) {
  if (!is_ours() && !take(answer)) return;
  begun_ = true;
  if (const auto good = last_good()) redis_->offer(*good);
}

bool FleetStore::is_ours() const {
  return belongs_.store() == name_;
}

// Makes the directory this store's. False: it cannot be written, and nothing in it is used.
bool FleetStore::take(Answer& answer) {
  const FileLock lock = directory_.lock();
  std::string error = lock.error();
  if (lock.held()) {
    tell_dropped_kills(answer);
    move_aside(answer);
    error = belongs_.take(name_);
  }
  if (error.empty()) return true;
  answer.errors.push_back(error + "; nothing of the store is kept on this machine");
  return false;
}

// They go with the state that they are in: whoever made them expects them to hold.
void FleetStore::tell_dropped_kills(Answer& answer) {
  Answer former;
  RuntimeFile(directory_).exchange({}, former);
  if (former.runtime_unreadable)
    answer.warnings.push_back(directory_.file("runtime.json") + ": cannot be read; kills in it are dropped");
  const std::string kills = former.runtime ? standing_targets(*former.runtime) : "";
  if (kills.empty()) return;
  answer.warnings.push_back("killed on this node until now, and not in the fleet: " + kills +
                            "; what is to stay killed: experimentctl kill KEY[/VARIANT] (or --all) --reason TEXT " +
                            store_options(name_));
}

// Requires: the directory's lock is held.
void FleetStore::move_aside(Answer& answer) {
  std::vector<std::string> paths{directory_.file("runtime.json"), directory_.file("definitions.good.json"),
                                 directory_.file("counters/folded.json")};
  Answer seen;
  counters_.exchange({}, seen);
  for (const auto& retired : counters_.retired())
    paths.push_back(directory_.file("counters/" + retired.instance + ".json"));
  std::string moved;
  for (const std::string& path : paths) {
    if (std::rename(path.c_str(), (path + ".former").c_str()) == 0) moved += (moved.empty() ? "" : ", ") + path;
  }
  if (!moved.empty()) answer.notices.push_back(moved + ": not of this store, kept with the ending .former");
}

Answer FleetStore::exchange(const Exchange& wants) {
  Answer local;
  Exchange remote = wants;
  remote.good_document.reset();
  try {
    if (!begun_) begin(local);
    if (begun_ && !wants.counters_only) look_at_runtime(local);
    if (begun_ && wants.counters) keep_counters(wants, remote, local);
  } catch (const std::exception& problem) {  // memory ran out; the rest still holds
    local.errors.push_back(directory_.file("") + ": " + problem.what() + "; tried again at the next exchange");
  }
  Answer answer = redis_->exchange(remote);
  if (begun_ && !wants.counters_only) {
    if (wants.good_document) documents_.keep_good(wants, local);
    keep_runtime(local);
  }
  answer.counters_written = answer.counters_written || local.counters_written;
  answer.own = std::move(local.own);
  answer.runtime_unreadable = answer.runtime_unreadable || (local.runtime_unreadable && redis_->runtime().version == 0);
  append(answer.errors, local.errors);
  append(answer.warnings, local.warnings);
  append(answer.notices, local.notices);
  return answer;
}

std::optional<StoredDocument> FleetStore::last_good() {
  if (!begun_ && !is_ours()) return std::nullopt;
  try {
    return documents_.last_good();
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

// What somebody else wrote there (or, at a start, this node's last leader) is offered to the fleet.
void FleetStore::look_at_runtime(Answer& answer) {
  Exchange look;
  look.known_runtime = file_version_;
  runtime_.exchange(look, answer);
  if (!answer.runtime) return;
  file_version_ = answer.runtime->version;
  redis_->offer(*answer.runtime);
  answer.runtime.reset();
}

void FleetStore::keep_runtime(Answer& answer) {
  const auto now = Clock::now();
  if (kept_ == redis_->runtime_revision()) return;
  std::string kills = kills_of(redis_->runtime());
  if (kills == kept_kills_ && now < keep_due_) return;
  if (kept_ == ~std::uint64_t{0} && redis_->runtime().experiments.empty() && redis_->runtime().kill_all.empty()) return;
  Exchange keep;
  keep.known_runtime = file_version_;
  keep.runtime = redis_->runtime();
  Answer kept;
  runtime_.exchange(keep, kept);
  const auto done = Clock::now();
  keep_due_ = done + kKeepPause * (done - now);
  append(answer.errors, kept.errors);
  if (!kept.runtime_written) return;  // after a conflict the next look has what was written
  ++file_version_;
  kept_ = redis_->runtime_revision();
  kept_kills_ = std::move(kills);
}

// On the disk before they are sent: what the network loses, the next process sends again.
void FleetStore::keep_counters(const Exchange& wants, Exchange& remote, Answer& answer) {
  counters_.exchange(wants, answer);
  if (answer.own) merge_max(*remote.counters, *answer.own);
  replay_retired();
}

void FleetStore::replay_retired() {
  for (const CounterFiles::Retired& retired : counters_.retired()) {
    if (retired.age_ns > kReplayNs && redis_->has_all_of(retired.instance)) {
      redis_->forget(retired.instance);
      counters_.remove(retired.instance);
    } else {
      redis_->replay(retired.instance, *retired.counters);
    }
  }
}

}  // namespace experiment::shared
