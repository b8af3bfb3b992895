#include "shared/state_directory.h"

namespace experiment::shared {
namespace {

constexpr int kLockAttempts = 25;

}  // namespace

FileLock StateDirectory::lock() {
  // A failure to make the directory shows in the lock's error, which names a path inside it.
  ensure_directory(path_);
  FileLock lock(file("lock"), FileLock::Mode::kExclusive, kLockAttempts);
  if (lock.held() && !swept_) {
    remove_temporaries(path_);
    remove_temporaries(file("counters"));
    swept_ = true;
  }
  return lock;
}

}  // namespace experiment::shared
