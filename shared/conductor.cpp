#include "shared/conductor.h"

#include <algorithm>
#include <cerrno>

#include "shared/kills.h"
#include "shared/state_files.h"

namespace experiment::shared {
namespace {

constexpr std::int64_t kSayAgainMs = 10 * 1000;
constexpr std::size_t kMostCauses = 64;  // of that time: a store that is broken in ever new ways fills no log
constexpr std::size_t kMaxKillFileBytes = 1 << 20;
constexpr int kTries = 3;  // against others who write at the same time

// Every kill that stands by its target: "*", "key" or "key/variant".
std::map<std::string, const Kill*> standing_kills(const Runtime& runtime) {
  std::map<std::string, const Kill*> kills;
  for (const Kill& kill : runtime.kill_all) {
    if (kill.stands()) kills["*"] = &kill;
  }
  for (const auto& [key, state] : runtime.experiments) {
    for (const Kill& kill : state.kills) {
      if (kill.stands()) kills[kill.variant.empty() ? key : key + "/" + kill.variant] = &kill;
    }
  }
  return kills;
}

// " by NAME: REASON" where the state says who lifted this kill.
std::string lifted_by(const Runtime& runtime, const Kill& kill) {
  const auto told = [&](const std::vector<Kill>& kills) -> std::string {
    for (const Kill& other : kills) {
      if (other.lifted && identity_of(other) == identity_of(kill))
        return " by " + other.lifted->by + ": " + other.lifted->reason;
    }
    return {};
  };
  std::string text = told(runtime.kill_all);
  for (auto state = runtime.experiments.begin(); text.empty() && state != runtime.experiments.end(); ++state)
    text = told(state->second.kills);
  return text;
}

// Takes out what the store knows, be it lifted by now, and what another kill of the same target does already: the kill
// files of many nodes may say the same.
void drop_known(std::vector<Kill>& kills, const std::vector<Kill>& known) {
  const auto is_known = [&](const Kill& kill) {
    const auto same = [&](const Kill& other) { return identity_of(other) == identity_of(kill); };
    return find_standing(known, kill.variant) != nullptr || std::any_of(known.begin(), known.end(), same);
  };
  kills.erase(std::remove_if(kills.begin(), kills.end(), is_known), kills.end());
}

void drop_known(Runtime& kills, const Runtime& known) {
  drop_known(kills.kill_all, known.kill_all);
  for (auto& [key, experiment] : kills.experiments) {
    const auto state = known.experiments.find(key);
    if (state != known.experiments.end()) drop_known(experiment.kills, state->second.kills);
  }
}

std::string versioned(std::uint64_t version) {
  return "definitions " + std::to_string(version);
}

}  // namespace

Conductor::Conductor(std::unique_ptr<Store> store, std::string kill_file, RandomBits random)
    : store_(std::move(store)), kill_path_(std::move(kill_file)), random_(std::move(random)) {}

// What this node has, and what it needs beside that.
Exchange Conductor::ask() const {
  Exchange wants;
  wants.known_document = seen_document_;
  wants.known_runtime = stored_runtime_;
  wants.known_others = others_mark_;
  wants.learning = learning();
  return wants;
}

// Experiments that the allocator looks at, sorted.
std::vector<std::string> Conductor::learning() const {
  std::vector<std::string> keys;
  if (!allocates_) return keys;
  for (const auto& experiment : document_.document.experiments) {
    const bool runs = experiment.desired == bandit::Desired::kRunning && experiment.not_in_build.empty();
    if (runs && experiment.policy.adaptive()) keys.push_back(experiment.key);
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

std::vector<Message> Conductor::step(const StepInput& input) {
  messages_.clear();
  Exchange wants = ask();
  if (input.flush) wants.counters = input.totals;
  wants.hint = input.hint;
  wants.report = input.report;
  if (flushed_ms_ > input.now_ms) flushed_ms_ = 0;  // the clock was set back: it must not answer for later counts
  Answer answer = store_->exchange(wants);
  if (answer.counters_written) flushed_ms_ = input.now_ms;
  if (answer.own) own_ = std::move(*answer.own);
  bool changed = adopt(answer, input.now_ms);
  if (!document_accepted_) load_last_good();
  changed = apply_kill_file(input.now_ms) || changed;
  runtime_unread_ = answer.runtime_unreadable && stored_runtime_ == 0;
  if (runtime_unread_) {
    // Kills may be in it: nothing is made up in its place. The kill file works, experiments wait for the operator.
    if (changed) ++changes_;
    return std::move(messages_);
  }
  changed = take_restored() || changed;
  for (const auto& change : bring_in_line(input.now_ms)) {
    say(Severity::kNotice, "\"" + change.experiment + "\": " + change.what);
    changed = true;
  }
  if (!allocates_) p_best_.clear();
  if (input.totals && allocates_) {
    Counters totals = *input.totals;
    merge_max(totals, own_);
    add(totals, others_);
    changed = look(totals, *wants.learning, input.now_ms) || changed;
  }
  if (unsaved_ || !accepted_text_.empty()) changed = publish(input.now_ms) || changed;
  if (changed) ++changes_;
  return std::move(messages_);
}

// The runtime state follows the document on the node that allocates. Returns: what changed.
std::vector<Change> Conductor::bring_in_line(std::int64_t now_ms) {
  if (!allocates_) return {};
  std::vector<Change> changes = reconcile(document_.document, runtime_, now_ms, random_);
  // Never a lower one: of two nodes, one may refuse what the other accepts.
  const bool newer = document_version_ > runtime_.document;
  if (newer) runtime_.document = document_version_;
  unsaved_ = unsaved_ || newer || !changes.empty();
  return changes;
}

void Conductor::restore(std::string_view text) {
  std::string error;
  if (!text.empty()) restored_ = decode_runtime(text, error);
}

// Kills and allocations that a leader made while the store took nothing must not go with that leader. If the store has
// moved on since then, the kills still hold.
bool Conductor::take_restored() {
  if (!restored_) return false;
  bool taken = restored_->version == stored_runtime_;
  if (taken) {
    unite_kills(*restored_, unsaved_kills_);
    runtime_ = std::move(*restored_);
    kill_text_.clear();
  } else {
    taken = unite_kills(runtime_, *restored_);
  }
  if (taken) say(Severity::kNotice, "taken over what the store has not got yet");
  unsaved_ = unsaved_ || taken;
  restored_.reset();
  return taken;
}

std::vector<Message> Conductor::flush(Counters totals, std::int64_t now_ms) {
  messages_.clear();
  Exchange wants;
  wants.counters_only = true;
  wants.known_others = others_mark_;
  wants.learning.emplace();
  wants.counters = std::move(totals);
  for (const auto& error : store_->exchange(wants).errors) say_again(Severity::kError, error, now_ms);
  return std::move(messages_);
}

void Conductor::say_again(Severity severity, const std::string& text, std::int64_t now_ms) {
  for (auto said = said_.begin(); said != said_.end();) {
    const bool recent = now_ms >= said->second && now_ms - said->second < kSayAgainMs;
    said = recent ? std::next(said) : said_.erase(said);
  }
  const std::string cause = text.substr(0, text.find("; "));  // without its consequence
  if (said_.size() < kMostCauses && said_.try_emplace(cause, now_ms).second) say(severity, text);
}

// Takes over what is newer in the store. Returns: whether document or runtime changed.
bool Conductor::adopt(Answer& answer, std::int64_t now_ms) {
  allocates_ = answer.allocates;
  wants_flush_ = answer.counters_wanted;
  for (const auto& error : answer.errors) say_again(Severity::kError, error, now_ms);
  for (const auto& notice : answer.notices) say_again(Severity::kNotice, notice, now_ms);
  bool changed = false;
  if (answer.others) {
    others_ = std::move(*answer.others);
    others_mark_ = answer.others_mark;
  }
  if (answer.runtime) {
    stored_runtime_ = answer.runtime->version;
    drop_known(unsaved_kills_, *answer.runtime);
    unsaved_ = unite_kills(*answer.runtime, unsaved_kills_);
    tell_kills(*answer.runtime);
    runtime_ = std::move(*answer.runtime);
    changed = true;
    kill_text_.clear();  // a line that stands kills again
  }
  if (answer.document) {
    std::uint64_t before = document_version_;
    adopt_document(*answer.document, now_ms);
    changed = changed || document_version_ != before;
  }
  for (const auto& warning : answer.warnings) say_again(Severity::kWarning, warning, now_ms);
  return changed;
}

// What somebody else killed or resumed is worth a line on every node.
void Conductor::tell_kills(const Runtime& next) {
  auto before = standing_kills(runtime_), after = standing_kills(next);
  for (const auto& [target, kill] : after) {
    if (before.count(target) != 0) continue;
    say(Severity::kWarning, "\"" + target + "\" is killed by " + kill->by + ": " + kill->reason);
  }
  for (const auto& [target, kill] : before) {
    if (after.count(target) == 0) say(Severity::kWarning, "\"" + target + "\" is resumed" + lifted_by(next, *kill));
  }
}

void Conductor::adopt_document(const StoredDocument& stored, std::int64_t) {
  seen_document_ = stored.version;
  DefinitionError error;
  auto parsed = parse_document(stored.text, error);
  if (!parsed) {
    say(Severity::kError,
        versioned(stored.version) + " refused " + describe(error) + "; " +
            (document_version_ == 0 ? "no experiment runs from it"
                                    : "version " + std::to_string(document_version_) + " stays in use"));
    return;
  }
  for (const auto& warning : parsed->warnings) say(Severity::kWarning, versioned(stored.version) + " " + warning);
  document_ = std::move(*parsed);
  document_version_ = stored.version;
  document_accepted_ = true;
  accepted_text_ = stored.text;
  say(Severity::kNotice,
      versioned(stored.version) + " in use, " + std::to_string(document_.document.experiments.size()) + " experiments");
}

// At a start with a bad or missing document: the one that was accepted last.
void Conductor::load_last_good() {
  document_accepted_ = true;
  auto good = store_->last_good();
  if (!good) return;
  DefinitionError error;
  auto parsed = parse_document(good->text, error);
  if (!parsed) return;
  document_ = std::move(*parsed);
  document_version_ = good->version;
  ++changes_;
  for (const auto& warning : document_.warnings) say(Severity::kWarning, versioned(good->version) + " " + warning);
  say(Severity::kWarning, versioned(good->version) + " in use, the last good one, " +
                              std::to_string(document_.document.experiments.size()) + " experiments");
}

bool Conductor::apply_kill_file(std::int64_t now_ms) {
  if (kill_path_.empty()) return false;
  FileText read = read_file(kill_path_, kMaxKillFileBytes);
  if (!read.error.empty() && read.stamp.error != ENOENT) {
    say_again(Severity::kError, read.error + "; what it kills from now on is not known", now_ms);
    return false;
  }
  if (read.text == kill_text_) return false;
  kill_text_ = read.text;
  KillFile file = parse_kill_file(read.text);
  for (const auto& error : file.errors)
    say_again(Severity::kError, kill_path_ + " " + error + "; the other lines hold", now_ms);
  bool changed = false;
  for (const KillLine& line : file.lines) changed = add_kill(line, now_ms) || changed;
  unsaved_ = unsaved_ || changed;
  return changed;
}

bool Conductor::add_kill(const KillLine& line, std::int64_t now_ms) {
  const auto kills_in = [&](Runtime& runtime) -> std::vector<Kill>& {
    return line.all ? runtime.kill_all : runtime.experiments[line.key].kills;
  };
  if (find_standing(kills_in(runtime_), line.variant) != nullptr) return false;
  Kill kill{line.variant, "line " + std::to_string(line.line), kill_file_author(kill_path_), now_ms / 1000};
  while (kill.id == 0) kill.id = random_();
  prune_lifted(kills_in(runtime_), kill.at_s);
  for (Runtime* runtime : {&runtime_, &unsaved_kills_}) kills_in(*runtime).push_back(kill);
  say(Severity::kWarning,
      (line.all ? "everything" : "\"" + line.key + (line.variant.empty() ? "" : "/" + line.variant) + "\"") +
          std::string(" killed by ") + kill_path_ + " line " + std::to_string(line.line));
  return true;
}

// The allocator's look at every adaptive experiment whose fleet totals were asked for: a node that has just begun to
// allocate has its own only. Returns: whether an epoch began.
bool Conductor::look(const Counters& totals, const std::vector<std::string>& learned, std::int64_t now_ms) {
  bool changed = false;
  for (const auto& experiment : document_.document.experiments) {
    auto state = runtime_.experiments.find(experiment.key);
    if (!experiment.policy.adaptive() || !experiment.not_in_build.empty() || state == runtime_.experiments.end())
      continue;
    const bool runs = experiment.desired == bandit::Desired::kRunning;
    if (runs && !std::binary_search(learned.begin(), learned.end(), experiment.key)) continue;
    AllocationLook look = allocate(experiment, state->second, totals, now_ms, random_(), store_writable_);
    if (look.p_best.empty()) {
      p_best_.erase(experiment.key);
    } else {
      p_best_[experiment.key] = look.p_best;
    }
    changed = changed || look.new_epoch;
  }
  unsaved_ = unsaved_ || changed;
  return changed;
}

// Writes what is ahead of the store. When somebody else wrote first, theirs is taken and ours is made again on top of
// it. Returns: whether document or runtime changed by that.
bool Conductor::publish(std::int64_t now_ms) {
  bool changed = false;
  for (int tries = 0; tries < kTries; ++tries) {
    Exchange wants = ask();
    if (unsaved_) wants.runtime = runtime_;
    if (!accepted_text_.empty()) {
      wants.known_document = document_version_;
      wants.good_document = std::move(accepted_text_);
      accepted_text_.clear();
    }
    bool asked = unsaved_;
    Answer answer = store_->exchange(wants);
    if (answer.document && wants.known_document != seen_document_) answer.document.reset();  // seen already
    if (answer.runtime_written) {
      stored_runtime_ = answer.runtime_version;
      runtime_.version = stored_runtime_;
      unsaved_ = false;
      unsaved_kills_ = {};
    }
    bool conflict = answer.runtime_conflict;
    bool taken = !asked || answer.runtime_written || conflict;
    changed = adopt(answer, now_ms) || changed;
    // A fleet's store takes back what it could not publish: nothing would be written that tells when it can again.
    store_writable_ = taken || !unsaved_;
    if (!conflict) return changed;
    changed = apply_kill_file(now_ms) || changed;
    bring_in_line(now_ms);
    if (!unsaved_) return changed;
  }
  return changed;
}

}  // namespace experiment::shared
