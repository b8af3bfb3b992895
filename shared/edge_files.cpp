#include "shared/edge_files.h"

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "shared/checked_json.h"

namespace experiment::shared {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{4} << 20;
constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::int64_t kRewriteNs = 60 * kSecondNs;
constexpr std::int64_t kForgetNs = 3600 * kSecondNs;
constexpr auto kRetryAfter = std::chrono::seconds(10);
constexpr std::string_view kJson = ".json";

// The instance that a file is named after; empty: none.
std::string instance_of(const std::string& name) {
  if (name.size() != kInstanceLength + kJson.size() || name.substr(kInstanceLength) != kJson) return {};
  std::string instance = name.substr(0, kInstanceLength);
  return is_instance(instance) ? instance : std::string();
}

}  // namespace

EdgeFiles::EdgeFiles(StateDirectory& directory, std::string instance)
    : directory_(directory),
      folder_(directory.file("edges")),
      instance_(std::move(instance)),
      file_(folder_ + "/" + instance_ + std::string(kJson), kMaxBytes) {}

void EdgeFiles::exchange(const Exchange& wants, Answer& answer) {
  if (!wants.report || !is_instance(instance_)) return;
  file_.news();
  // A file of the future is as good as an old one: the clock was set back.
  const bool young = file_.stamp().exists() && std::llabs(file_.stamp().age_ns()) < kRewriteNs;
  if (young && file_.digest() == digest_text(*wants.report)) return;
  if (std::chrono::steady_clock::now() < not_before_) return;
  const FileLock lock = directory_.lock();
  std::string error = lock.held() ? ensure_directory(folder_) : lock.error();
  if (error.empty()) error = replace_file(file_.path(), *wants.report);
  if (!error.empty()) {
    answer.errors.push_back(error + "; what this edge does is not reported");
    not_before_ = std::chrono::steady_clock::now() + kRetryAfter;
    return;
  }
  file_.news(true);  // what this object wrote itself is no news
  forget_old();
}

void EdgeFiles::forget_old() const {
  std::string ignored;  // read() tells it
  for (const std::string& name : list_directory(folder_, ignored)) {
    const std::string path = folder_ + "/" + name;
    if (!instance_of(name).empty() && stamp_of(path).age_ns() > kForgetNs) remove_file(path);
  }
}

std::vector<EdgeReport> EdgeFiles::read(std::string& error) const {
  std::vector<EdgeReport> reports;
  error.clear();
  for (const std::string& name : list_directory(folder_, error)) {
    const std::string instance = instance_of(name);
    if (instance.empty()) continue;
    FileText file = read_file(folder_ + "/" + name, kMaxBytes);
    const std::int64_t age_ns = file.stamp.age_ns();
    if (file.stamp.error == ENOENT || age_ns > kForgetNs) continue;
    if (!file.error.empty()) {
      if (error.empty()) error = file.error + "; left out";
      continue;
    }
    reports.push_back({instance, age_ns < 0 ? 0 : age_ns / kSecondNs, std::move(file.text)});
  }
  return reports;
}

}  // namespace experiment::shared
