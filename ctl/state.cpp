#include "ctl/state.h"

#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "shared/definition_json.h"

namespace experiment::ctl {
namespace {

constexpr int kAttempts = 20;
constexpr auto kPause = std::chrono::milliseconds(50);

}  // namespace

const bandit::Experiment* Snapshot::find(const std::string& key) const {
  for (const bandit::Experiment& experiment : document.experiments) {
    if (experiment.key == key) return &experiment;
  }
  return nullptr;
}

State::State(std::string directory, Output& output)
    : directory_(std::move(directory)), output_(output), store_(directory_) {}

int State::take(shared::Answer& answer, Snapshot& out) {
  struct stat status;
  if (::stat(directory_.c_str(), &status) != 0) {
    return output_.fail(kUnreachable, shared::describe_error(directory_, errno) + "; expected a state directory");
  }
  for (const std::string& error : answer.errors) output_.warn(error);
  if (answer.runtime_unreadable) return output_.fail(kUnreachable, directory_ + ": the runtime state cannot be read");
  if (answer.runtime) out.runtime = std::move(*answer.runtime);
  if (answer.others) out.totals = std::move(*answer.others);
  if (!answer.document) return kOk;
  // As a node does: a document that it would refuse changes nothing, the last good one holds.
  shared::DefinitionError error;
  std::optional<shared::StoredDocument> document = std::move(answer.document);
  std::optional<shared::ParsedDocument> parsed = shared::parse_document(document->text, error);
  if (!parsed) {
    output_.warn("definitions " + std::to_string(document->version) + " refused " + shared::describe(error) +
                 "; the last good version holds");
    document = store_.last_good();
    if (document) parsed = shared::parse_document(document->text, error);
  }
  if (parsed) {
    out.document = std::move(parsed->document);
    out.document_version = document->version;
  }
  return kOk;
}

int State::read(Snapshot& out) {
  out = {};
  shared::Answer answer = store_.exchange({});
  return take(answer, out);
}

int State::update(const std::function<int(Snapshot&, bool&)>& edit, Snapshot& out) {
  int code = read(out);
  if (code != kOk) return code;
  for (int attempt = 1;; ++attempt) {
    bool changed = false;
    code = edit(out, changed);
    if (code != kOk || !changed) return code;
    shared::Exchange wants;
    wants.known_document = out.document_version;
    wants.known_runtime = out.runtime.version;
    wants.runtime = out.runtime;
    shared::Answer answer = store_.exchange(wants);
    if (answer.runtime_written) {
      ++out.runtime.version;
      return kOk;
    }
    if (attempt == kAttempts) {
      for (const std::string& error : answer.errors) output_.warn(error);
      return output_.fail(kUnreachable, directory_ + ": the runtime state could not be written; nothing was changed");
    }
    if (!answer.runtime_conflict) std::this_thread::sleep_for(kPause);
    code = read(out);
    if (code != kOk) return code;
  }
}

}  // namespace experiment::ctl
