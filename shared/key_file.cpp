#include "shared/key_file.h"

#include <cerrno>

#include "shared/state_directory.h"

namespace experiment::shared {
namespace {

constexpr std::size_t kMaxBytes = 65536;
constexpr int kLockAttempts = 10;  // of a quarter of a second each

}  // namespace

std::optional<std::string> ensure_keys(const std::string& directory, const std::function<std::string()>& generate,
                                       std::string& error) {
  StateDirectory state(directory);
  const std::string path = state.file("keys");
  FileText keys = read_file(path, kMaxBytes);
  for (int attempt = 0; keys.stamp.error == ENOENT && attempt < kLockAttempts; ++attempt) {
    const FileLock lock = state.lock();
    error = lock.error();
    keys = read_file(path, kMaxBytes);  // another process may have been first
    if (!lock.held() && !lock.busy()) return std::nullopt;
    if (!lock.held() || keys.stamp.error != ENOENT) continue;
    error = replace_private_file(path, generate());
    if (!error.empty()) return std::nullopt;
    keys = read_file(path, kMaxBytes);
  }
  if (keys.error.empty()) return std::move(keys.text);
  if (error.empty()) error = keys.error;
  return std::nullopt;
}

}  // namespace experiment::shared
