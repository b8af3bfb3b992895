#include "shared/audit_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>

#include <nlohmann/json.hpp>

namespace experiment::shared {
namespace {

using nlohmann::ordered_json;

constexpr const char* kName = "audit.jsonl";
constexpr const char* kOldName = "audit.1.jsonl";
constexpr std::uint64_t kRotateBytes = std::uint64_t{4} << 20;
constexpr std::size_t kMaxBytes = std::size_t{64} << 20;

std::string encode(const AuditEntry& entry) {
  const ordered_json line = {{"at_s", entry.at_s},     {"by", entry.by},         {"verb", entry.verb},
                             {"target", entry.target}, {"reason", entry.reason}, {"detail", entry.detail}};
  return line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::optional<AuditEntry> decode(std::string_view line) {
  const ordered_json value = ordered_json::parse(line, nullptr, false);
  if (!value.is_object()) return std::nullopt;
  bool whole = true;
  const auto text = [&](const char* name) {
    const auto member = value.find(name);
    whole = whole && member != value.end() && member->is_string();
    return whole ? member->get<std::string>() : std::string();
  };
  const auto at_s = value.find("at_s");
  if (at_s == value.end() || !at_s->is_number_integer()) return std::nullopt;
  AuditEntry entry{at_s->get<std::int64_t>(), text("by"), text("verb"), text("target"), text("reason"), text("detail")};
  if (!whole) return std::nullopt;
  return entry;
}

// Appends the newest of a file's entries. Returns: why there is nothing to read, or how many lines are none.
std::string read_newest(const std::string& path, std::size_t most, std::vector<AuditEntry>& entries) {
  const FileText file = read_file(path, kMaxBytes);
  if (file.stamp.error == ENOENT) return {};
  if (!file.error.empty()) return file.error;
  std::size_t damaged = 0;
  std::string_view rest = file.text;
  while (!rest.empty() && entries.size() < most) {
    if (rest.back() == '\n') rest.remove_suffix(1);
    const std::size_t before = rest.rfind('\n');
    const std::size_t begin = before == rest.npos ? 0 : before + 1;
    const std::string_view line = rest.substr(begin);
    rest = rest.substr(0, begin);
    if (line.empty()) continue;
    if (auto entry = decode(line)) {
      entries.push_back(std::move(*entry));
    } else {
      ++damaged;
    }
  }
  return damaged == 0 ? std::string() : path + ": " + std::to_string(damaged) + " lines are no entries; left out";
}

}  // namespace

void AuditFile::record(const AuditEntry& entry, std::string& error) {
  const FileLock lock = directory_.lock();
  error = lock.error();
  if (!lock.held()) return;
  const std::string path = directory_.file(kName), old = directory_.file(kOldName);
  if (stamp_of(path).size >= kRotateBytes && std::rename(path.c_str(), old.c_str()) != 0) {
    error = describe_error(path, errno);
    return;
  }
  error = append_to_file(path, encode(entry));
}

std::vector<AuditEntry> AuditFile::read(std::size_t most, std::string& error) const {
  std::vector<AuditEntry> entries;
  error.clear();
  for (const char* name : {kName, kOldName}) {
    const std::string fault = read_newest(directory_.file(name), most, entries);
    if (error.empty()) error = fault;
  }
  return entries;
}

}  // namespace experiment::shared
