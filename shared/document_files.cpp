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
      history_(directory),
      document_(directory.file("definitions.json"), kMaxDocumentBytes),
      numbering_(directory.file("store.json"), kMaxNumberingBytes),
      good_(directory.file("definitions.good.json"), kMaxGoodBytes) {}

void DocumentFiles::exchange(const Exchange& wants, Answer& answer) {
  look_at_document(false);
  look_at_numbering(false, answer.errors);
  report_fault(answer);
  if (!digest_.empty()) {
    if (!recorded_ || numbered_.digest != digest_ || numbered_.version < wants.known_document) {
      const FileLock lock = directory_.lock();
      if (lock.busy()) {
        answer.errors.push_back(lock.error() + "; changed definitions wait for it");
      } else {
        number(lock, wants.known_document, answer.errors);
      }
    }
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

void DocumentFiles::look_at_numbering(bool in_any_case, std::vector<std::string>& errors) {
  const std::optional<FileText> news = numbering_.news(in_any_case);
  if (!news) return;
  std::string error = news->error;
  auto decoded = error.empty() ? decode_versioned(news->text, "digest", error) : std::nullopt;
  recorded_ = decoded.has_value();
  if (decoded) {
    numbered_ = {decoded->first, std::move(decoded->second)};
  } else if (news->stamp.error != ENOENT) {
    const std::string what = news->error.empty() ? numbering_.path() + ": refused: " + error : error;
    errors.push_back(what + "; the definitions are numbered anew");
  }
}

void DocumentFiles::number(const FileLock& lock, std::uint64_t known, std::vector<std::string>& errors) {
  look_at_document(
      true);  // numbered is what stands there now, not what this process saw before another one numbered its successor
  if (digest_.empty()) return;
  look_at_numbering(lock.held(), errors);
  look_at_good();
  const std::uint64_t highest = std::max({numbered_.version, kept_.version, known});
  const bool has_number = numbered_.digest == digest_ && numbered_.version >= known;
  if (has_number && recorded_) return;  // another process was faster
  if (!has_number) {
    if (lock.held()) keep_replaced(errors);
    numbered_ = {highest + 1, digest_};
  }
  record_number(lock, errors);
}

// Where nothing can be written, the number holds in this process: the document takes effect, and the fault is repeated
// until it is mended.
void DocumentFiles::record_number(const FileLock& lock, std::vector<std::string>& errors) {
  recorded_ = false;
  std::string error = lock.error();
  if (lock.held()) {
    error = replace_file(numbering_.path(), encode_versioned(numbered_.version, "digest", numbered_.digest));
  }
  if (error.empty()) {
    numbering_.news(true);  // what this object wrote itself is no news
    recorded_ = true;
  } else {
    errors.push_back(error + "; version " + std::to_string(numbered_.version) + " of the definitions is not recorded");
  }
}

// An edit by hand has overwritten the document; a node that accepted it has kept its text. Who made it is known where
// it was published.
void DocumentFiles::keep_replaced(std::vector<std::string>& errors) {
  if (numbered_.version == 0 || numbered_.version != kept_.version || numbered_.digest != kept_.digest) return;
  const auto good = last_good();
  if (!good || good->version != numbered_.version) return;
  const std::string error = history_.keep({good->version, 0, {}, good->text});
  if (!error.empty()) errors.push_back(error + "; what was edited is not kept in the history");
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

// An edit by hand that nobody has numbered yet gets its number first, and counts as what stands.
std::string DocumentFiles::number_what_stands(const FileLock& lock) {
  if (is_symbolic_link(document_.path())) {
    return document_.path() + ": a symbolic link, expected a file; edit what it points to";
  }
  std::vector<std::string> errors;
  number(lock, 0, errors);
  if (!fault_.empty() && document_.stamp().error != ENOENT) return fault_;
  if (digest_.empty()) {
    look_at_numbering(true, errors);
    look_at_good();
    return {};  // a numbering that cannot be read is replaced
  }
  return recorded_ ? std::string() : errors.back();
}

// First what must not be lost: what stands, and who made the new one.
std::string DocumentFiles::replace_document(const Publication& publication) {
  const std::uint64_t version = std::max(numbered_.version, kept_.version) + 1;
  if (!digest_.empty()) {
    FileText stands = read_file(document_.path(), kMaxDocumentBytes);
    if (stands.error.empty()) {
      const std::int64_t at_s = stands.stamp.modified_ns / 1'000'000'000;
      stands.error = history_.keep({numbered_.version, at_s, {}, std::move(stands.text)});
    }
    if (!stands.error.empty()) return stands.error;
  }
  std::string error = history_.keep({version, publication.at_s, publication.by, publication.text});
  if (error.empty()) error = replace_file(document_.path(), publication.text);
  if (!error.empty()) return error;
  look_at_document(true);
  numbered_ = {version, digest_text(publication.text)};
  return {};
}

Published DocumentFiles::publish(const Publication& publication) {
  Published out;
  const FileLock lock = directory_.lock();
  out.error = lock.held() ? number_what_stands(lock) : lock.error();
  if (out.error.empty()) {
    out.version = digest_.empty() ? 0 : numbered_.version;
    out.conflict = publication.expected && *publication.expected != out.version;
    out.written = !out.conflict && digest_ == digest_text(publication.text);  // it stands already
    if (out.conflict || out.written) return out;
    out.error = replace_document(publication);
  }
  if (!out.error.empty()) {
    out.error += "; nothing was published";
    return out;
  }
  // A number that is not recorded is given again by whoever looks next.
  std::vector<std::string> errors;
  record_number(lock, errors);
  out.written = true;
  out.version = numbered_.version;
  return out;
}

std::vector<DocumentVersion> DocumentFiles::history(std::string& error) {
  error.clear();
  std::vector<DocumentVersion> documents = history_.read(error);
  Answer answer;
  exchange({}, answer);
  if (!answer.document) return documents;
  const StoredDocument& stands = *answer.document;
  const auto same = [&](const DocumentVersion& kept) { return kept.version == stands.version; };
  const auto known = std::find_if(documents.begin(), documents.end(), same);
  if (known == documents.end()) {
    documents.insert(documents.begin(),
                     {stands.version, document_.stamp().modified_ns / 1'000'000'000, {}, stands.text});
  } else if (known->text != stands.text) {
    *known = {stands.version, document_.stamp().modified_ns / 1'000'000'000, {}, stands.text};
  }
  return documents;
}

}  // namespace experiment::shared
