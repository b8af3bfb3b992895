#include "shared/state_directory.h"

namespace experiment::shared {
namespace {

constexpr int kLockAttempts = 25, kLastAttempts = 200;

}  // namespace

bool is_instance(std::string_view name) {
  return name.size() == kInstanceLength &&
         name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == name.npos;
}

FileLock StateDirectory::lock(Wait wait) {
  // A failure to make the directory shows in the lock's error, which names a path inside it.
  ensure_directory(path_);
  FileLock lock(file("lock"), FileLock::Mode::kExclusive, wait == Wait::kForLastTime ? kLastAttempts : kLockAttempts);
  if (lock.held() && !swept_) {
    remove_temporaries(path_);
    for (const char* folder : {"counters", "edges", "history"}) remove_temporaries(file(folder));
    swept_ = true;
  }
  return lock;
}

}  // namespace experiment::shared
