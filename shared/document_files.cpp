#include "shared/document_files.h"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "shared/checked_json.h"

namespace experiment::shared {
namespace {

using nlohmann::json;

// Twice what a document may have: the reader says better than a store why a document is too long.
constexpr std::size_t kMaxDocumentBytes = std::size_t{8} << 20;
constexpr std::size_t kMaxNumberingBytes = 4096;
constexpr std::size_t kMaxGoodBytes = 8 * kMaxDocumentBytes;  // escapes make a text longer

// {"version":<n>,"<member>":"<text>"} in the envelope.
std::string encode_versioned(std::uint64_t version, const char* member, const std::string& text) {
  return seal_state({{"version", version}, {member, text}});
}

std::optional<std::pair<std::uint64_t, std::string>> decode_versioned(std::string_view text, const char* member,
                                                                      std::string& error) {
  const std::optional<json> state = open_state(text, error);
  if (!state) return std::nullopt;
  try {
    const StateValue value(*state);
    value.expect_members({"version", member});
    return std::make_pair(value.at("version").number(std::numeric_limits<std::uint64_t>::max()),
                          value.at(member).text());
  } catch (const StateError& wrong) {
    error = wrong.text;
    return std::nullopt;
  }
}

}  // namespace

DocumentFiles::DocumentFiles(StateDirectory& directory)
    : directory_(directory),
      document_(directory.file("definitions.json"), kMaxDocumentBytes),
      numbering_(directory.file("store.json"), kMaxNumberingBytes),
      good_(directory.file("definitions.good.json"), kMaxGoodBytes) {}

void DocumentFiles::exchange(const Exchange& wants, Answer& answer) {
  look_at_document(false);
  look_at_numbering(false, answer);
  report_fault(answer);
  if (!digest_.empty()) {
    if (!recorded_ || numbered_.digest != digest_ || numbered_.version < wants.known_document) number(wants, answer);
    if (numbered_.digest == digest_ && numbered_.version > wants.known_document) hand_out(answer);
  }
  if (wants.good_document) keep_good(wants, answer);
}

void DocumentFiles::look_at_document(bool in_any_case) {
  const std::optional<FileText> news = document_.news(in_any_case);
  if (!news) return;
  fault_ = news->error;
  digest_ = fault_.empty() ? digest_text(news->text) : std::string();
}

void DocumentFiles::report_fault(Answer& answer) const {
  if (fault_.empty()) return;
  answer.errors.push_back(fault_ + (numbered_.version > 0
                                        ? "; version " + std::to_string(numbered_.version) + " stays in use"
                                        : "; no experiment runs until it is there"));
}

void DocumentFiles::look_at_numbering(bool in_any_case, Answer& answer) {
  const std::optional<FileText> news = numbering_.news(in_any_case);
  if (!news) return;
  std::string error = news->error;
  auto decoded = error.empty() ? decode_versioned(news->text, "digest", error) : std::nullopt;
  recorded_ = decoded.has_value();
  if (decoded) {
    numbered_ = {decoded->first, std::move(decoded->second)};
  } else if (news->stamp.error != ENOENT) {
    const std::string what = news->error.empty() ? numbering_.path() + ": refused: " + error : error;
    answer.errors.push_back(what + "; the definitions are numbered anew");
  }
}

void DocumentFiles::number(const Exchange& wants, Answer& answer) {
  const FileLock lock = directory_.lock();
  if (lock.busy()) {
    answer.errors.push_back(lock.error() + "; changed definitions wait for it");
    return;
  }
  look_at_document(
      true);  // numbered is what stands there now, not what this process saw before another one numbered its successor
  if (digest_.empty()) return;
  look_at_numbering(lock.held(), answer);
  look_at_good();
  const std::uint64_t highest = std::max({numbered_.version, kept_.version, wants.known_document});
  const bool has_number = numbered_.digest == digest_ && numbered_.version >= wants.known_document;
  if (has_number && recorded_) return;  // another process was faster
  if (!has_number) numbered_ = {highest + 1, digest_};
  recorded_ = false;
  // Where nothing can be written, the number holds in this process: the document takes effect, and the fault is
  // repeated until it is mended.
  std::string error = lock.error();
  if (lock.held()) {
    error = replace_file(numbering_.path(), encode_versioned(numbered_.version, "digest", numbered_.digest));
  }
  if (error.empty()) {
    numbering_.news(true);  // what this object wrote itself is no news
    recorded_ = true;
  } else {
    answer.errors.push_back(error + "; version " + std::to_string(numbered_.version) +
                            " of the definitions is not recorded");
  }
}

void DocumentFiles::hand_out(Answer& answer) {
  FileText document = read_file(document_.path(), kMaxDocumentBytes);
  // Changed again since it was looked at: the next exchange numbers what is there then.
  if (!document.error.empty() || digest_text(document.text) != digest_) return;
  answer.document = StoredDocument{numbered_.version, std::move(document.text)};
}

void DocumentFiles::look_at_good() {
  const std::optional<FileText> news = good_.news();
  if (!news) return;
  std::string error;
  const auto decoded = decode_versioned(news->text, "text", error);
  kept_ = decoded ? Numbered{decoded->first, digest_text(decoded->second)} : Numbered{};
}

void DocumentFiles::keep_good(const Exchange& wants, Answer& answer) {
  look_at_good();
  const Numbered good{wants.known_document, digest_text(*wants.good_document)};
  if (kept_.version > good.version || (kept_.version == good.version && kept_.digest == good.digest)) return;
  const FileLock lock = directory_.lock();
  std::string error = lock.error();
  if (lock.held()) {
    error = replace_file(good_.path(), encode_versioned(good.version, "text", *wants.good_document));
  }
  if (error.empty()) {
    kept_ = good;
  } else {
    answer.errors.push_back(error + "; version " + std::to_string(good.version) +
                            " of the definitions is not kept as the last good one");
  }
}

std::optional<StoredDocument> DocumentFiles::last_good() {
  std::string error;
  auto decoded = decode_versioned(read_file(good_.path(), kMaxGoodBytes).text, "text", error);
  if (!decoded) return std::nullopt;
  return StoredDocument{decoded->first, std::move(decoded->second)};
}

}  // namespace experiment::shared
