#include "shared/history_files.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <utility>

#include "shared/checked_json.h"

namespace experiment::shared {
namespace {

using nlohmann::json;

constexpr std::size_t kKept = 100;
constexpr std::size_t kMaxBytes = std::size_t{64} << 20;
constexpr std::string_view kJson = ".json";

std::string encode(const DocumentVersion& document) {
  return seal_state(
      {{"version", document.version}, {"at_s", document.at_s}, {"by", document.by}, {"text", document.text}});
}

std::optional<DocumentVersion> decode(std::string_view text, std::string& error) {
  const std::optional<json> state = open_state(text, error);
  if (!state) return std::nullopt;
  try {
    const StateValue value(*state);
    value.expect_members({"version", "at_s", "by", "text"});
    return DocumentVersion{value.at("version").number(std::numeric_limits<std::uint64_t>::max()),
                           value.at("at_s").time(), value.at("by").text(), value.at("text").text()};
  } catch (const StateError& wrong) {
    error = wrong.text;
    return std::nullopt;
  }
}

// 41 of "41.json".
std::optional<std::uint64_t> version_of(std::string_view name) {
  if (name.size() <= kJson.size() || name.substr(name.size() - kJson.size()) != kJson) return std::nullopt;
  const std::string_view digits = name.substr(0, name.size() - kJson.size());
  std::uint64_t version = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), version);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return version;
}

std::optional<DocumentVersion> read_one(const std::string& path, std::uint64_t version, std::string& error) {
  const FileText file = read_file(path, kMaxBytes);
  error = file.error;
  if (!error.empty()) return std::nullopt;
  std::optional<DocumentVersion> document = decode(file.text, error);
  if (document && document->version == version) return document;
  error = path + ": refused: " + (document ? "holds version " + std::to_string(document->version) : error);
  return std::nullopt;
}

}  // namespace

HistoryFiles::HistoryFiles(StateDirectory& directory) : folder_(directory.file("history")) {}

std::string HistoryFiles::path_of(std::uint64_t version) const {
  return folder_ + "/" + std::to_string(version) + std::string(kJson);
}

std::vector<std::uint64_t> HistoryFiles::versions(std::string& error) const {
  std::vector<std::uint64_t> versions;
  for (const std::string& name : list_directory(folder_, error)) {
    if (const auto version = version_of(name)) versions.push_back(*version);
  }
  std::sort(versions.rbegin(), versions.rend());
  return versions;
}

std::string HistoryFiles::keep(const DocumentVersion& document) {
  std::string error;
  const auto known = read_one(path_of(document.version), document.version, error);
  if (known && known->text == document.text) return {};
  error = ensure_directory(folder_);
  if (error.empty()) error = replace_file(path_of(document.version), encode(document));
  if (!error.empty()) return error;
  const std::vector<std::uint64_t> kept = versions(error);
  for (std::size_t i = kKept; i < kept.size(); ++i) remove_file(path_of(kept[i]));
  return {};
}

std::vector<DocumentVersion> HistoryFiles::read(std::string& error) const {
  std::vector<DocumentVersion> documents;
  std::size_t unreadable = 0;
  for (const std::uint64_t version : versions(error)) {
    std::string fault;
    auto document = read_one(path_of(version), version, fault);
    if (document) documents.push_back(std::move(*document));
    if (!document && ++unreadable == 1) error = fault;
  }
  if (unreadable > 1) error += "; so are " + std::to_string(unreadable - 1) + " more versions";
  if (unreadable > 0) error += "; left out";
  return documents;
}

}  // namespace experiment::shared
