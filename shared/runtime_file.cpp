#include "shared/runtime_file.h"

#include <cerrno>
#include <utility>

namespace experiment::shared {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{256} << 20;

}  // namespace

RuntimeFile::RuntimeFile(StateDirectory& directory)
    : directory_(directory), file_(directory.file("runtime.json"), kMaxBytes) {}

void RuntimeFile::exchange(const Exchange& wants, Answer& answer) {
  look(false);
  if (behind() && (fault_.empty() || damaged_)) mend(answer);
  if (wants.runtime) compare_and_set(wants, answer);
  if (!answer.runtime_written && newest_ && newest_->version != wants.known_runtime) answer.runtime = newest_;
  answer.runtime_unreadable = !fault_.empty() && !newest_;
  if (fault_.empty()) return;
  answer.errors.push_back(fault_ + (newest_ ? "; version " + std::to_string(newest_->version) + " stays in use"
                                            : "; kills and allocations are unknown and nothing is written over it: "
                                              "restore it from a copy, or move it away to begin anew"));
}

void RuntimeFile::look(bool in_any_case) {
  std::optional<FileText> news = file_.news(in_any_case);
  if (!news) return;
  stored_version_ = 0;
  older_.reset();
  damaged_ = false;
  fault_ = news->stamp.error == ENOENT ? "" : news->error;
  if (!news->error.empty()) return;
  std::string error;
  std::optional<Runtime> runtime = decode_runtime(news->text, error);
  if (!runtime) {
    fault_ = file_.path() + ": refused: " + error;
    damaged_ = true;
    return;
  }
  stored_version_ = runtime->version;
  (behind() ? older_ : newest_) = std::move(runtime);
}

// Somebody removed, damaged or set back the file. What is in use is newer, and goes back into it with what the file
// knows beside it.
void RuntimeFile::mend(Answer& answer) {
  const FileLock lock = directory_.lock();
  if (!lock.held()) {
    answer.errors.push_back(lock.error() + "; runtime state not written back");
    return;
  }
  look(true);
  if (!behind() || (!fault_.empty() && !damaged_)) return;  // somebody else was faster
  if (damaged_ && !set_damaged_aside(answer)) return;
  Runtime mended = older_ ? join(*newest_, *older_) : *newest_;
  const std::string found = older_ ? "had version " + std::to_string(older_->version) : "was missing";
  ++mended.version;
  const std::string as = std::to_string(mended.version);
  if (!write(std::move(mended), answer)) return;
  answer.errors.push_back(file_.path() + ": " + found + "; what is in use was written back as version " + as);
}

void RuntimeFile::compare_and_set(const Exchange& wants, Answer& answer) {
  const FileLock lock = directory_.lock();
  if (!lock.held()) {
    answer.errors.push_back(lock.error() + "; runtime state not written");
    return;
  }
  look(true);
  // A caller that knows a state may write it where none is left; one that knows none must not cover a damaged one.
  const bool nothing_left = stored_version_ == 0 && !newest_ && wants.known_runtime > 0 && (fault_.empty() || damaged_);
  if (!nothing_left && !fault_.empty()) return;
  if (!nothing_left && stored_version_ != wants.known_runtime) {
    answer.runtime_conflict = true;
    return;
  }
  if (damaged_ && !set_damaged_aside(answer)) return;
  Runtime next = *wants.runtime;
  next.version = wants.known_runtime + 1;
  answer.runtime_version = next.version;
  answer.runtime_written = write(std::move(next), answer);
}

// Evidence is kept, for kills that only the damaged file knew are lost otherwise.
bool RuntimeFile::set_damaged_aside(Answer& answer) {
  std::string error;
  const std::string aside = set_aside(file_.path(), error);
  if (aside.empty()) {
    answer.errors.push_back(error + "; the damaged runtime state stays where it is");
    return false;
  }
  answer.errors.push_back(fault_ + "; kept as " + aside + ": a kill that nobody had read yet may be missing");
  return true;
}

bool RuntimeFile::write(Runtime runtime, Answer& answer) {
  const std::string error = replace_file(file_.path(), encode_runtime(runtime));
  if (!error.empty()) {
    answer.errors.push_back(error + "; runtime state not written, version " + std::to_string(stored_version_) +
                            " stays in use");
    return false;
  }
  file_.news(true);  // what this object wrote itself is no news
  stored_version_ = runtime.version;
  newest_ = std::move(runtime);
  older_.reset();
  fault_.clear();
  damaged_ = false;
  return true;
}

}  // namespace experiment::shared
