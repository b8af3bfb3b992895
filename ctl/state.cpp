#include "ctl/state.h"

#include <chrono>
#include <ctime>
#include <optional>
#include <thread>
#include <utility>

#include "ctl/author.h"

namespace experiment::ctl {
namespace {

constexpr int kAttempts = 20;  // against others who write all the time
constexpr auto kPause = std::chrono::milliseconds(50);
constexpr auto kPatience = std::chrono::seconds(2);  // with a store that takes nothing: a node may be writing

// Whether there is time for another attempt; waits before it.
class Patience {
 public:
  bool lasts() const {
    if (std::chrono::steady_clock::now() > end_) return false;
    std::this_thread::sleep_for(kPause);
    return true;
  }

 private:
  std::chrono::steady_clock::time_point end_ = std::chrono::steady_clock::now() + kPatience;
};

}  // namespace

std::int64_t now_s() {
  return static_cast<std::int64_t>(std::time(nullptr));
}

const bandit::Experiment* Snapshot::find(const std::string& key) const {
  for (const bandit::Experiment& experiment : parsed.document.experiments) {
    if (experiment.key == key) return &experiment;
  }
  return nullptr;
}

State::State(std::unique_ptr<shared::Store> store, std::string place, Output& output)
    : store_(std::move(store)), place_(std::move(place)), output_(output) {}

// As a node does: a document that it would refuse changes nothing, the last good one holds.
void State::take_document(Snapshot& out) {
  shared::DefinitionError error;
  std::optional<shared::ParsedDocument> parsed = shared::parse_document(out.stored.text, error);
  out.document_version = out.stored.version;
  if (!parsed) {
    out.refusal = shared::describe(error);
    const auto good = store_->last_good();
    if (good) parsed = shared::parse_document(good->text, error);
    out.document_version = parsed ? good->version : 0;
  }
  if (parsed) out.parsed = std::move(*parsed);
}

bool State::look(Snapshot& out, std::vector<std::string>& errors, bool totals) {
  out = {};
  shared::Exchange wants;
  if (!totals) wants.learning.emplace();
  shared::Answer answer = store_->exchange(wants);
  errors = std::move(answer.errors);
  if (answer.runtime) out.runtime = std::move(*answer.runtime);
  if (answer.others) out.totals = std::move(*answer.others);
  if (answer.document) {
    out.stored = std::move(*answer.document);
    take_document(out);
  }
  return !answer.runtime_unreadable;
}

int State::read(Snapshot& out, bool totals) {
  std::vector<std::string> errors;
  const bool readable = look(out, errors, totals);
  for (const std::string& error : errors) output_.warn(error);
  if (!readable) return output_.fail(kUnreachable, place_ + ": the runtime state cannot be read");
  if (!out.refusal.empty()) {
    output_.warn("definitions " + std::to_string(out.stored.version) + " refused " + out.refusal +
                 "; the last good version holds");
  }
  return kOk;
}

int State::update(const std::function<int(Snapshot&, bool&)>& edit, Snapshot& out) {
  const Patience patience;
  int code = read(out);
  if (code != kOk) return code;
  for (int attempt = 1;; ++attempt) {
    bool changed = false;
    code = edit(out, changed);
    if (code != kOk || !changed) return code;
    shared::Exchange wants;
    wants.known_document = out.stored.version;
    wants.known_runtime = out.runtime.version;
    wants.learning.emplace();
    wants.runtime = out.runtime;
    shared::Answer answer = store_->exchange(wants);
    if (answer.runtime_written) {
      out.runtime.version = answer.runtime_version;
      return kOk;
    }
    if (answer.runtime_conflict ? attempt == kAttempts : !patience.lasts()) {
      for (const std::string& error : answer.errors) output_.warn(error);
      return output_.fail(kUnreachable, place_ + ": the runtime state could not be written; nothing was changed");
    }
    code = read(out);
    if (code != kOk) return code;
  }
}

shared::Published State::publish(const std::string& text, std::uint64_t expected) {
  const Patience patience;
  shared::Published done;
  do {
    done = store_->publish({text, expected, author(), now_s()});
  } while (!done.error.empty() && patience.lasts());
  return done;
}

void State::record(const std::string& verb, const std::string& target, const std::string& reason,
                   const std::string& detail) {
  const Patience patience;
  std::string error;
  do {
    store_->record({now_s(), author(), verb, target, reason, detail}, error);
  } while (!error.empty() && patience.lasts());
  if (!error.empty()) output_.warn(error + "; done, but not in the audit log");
}

}  // namespace experiment::ctl
