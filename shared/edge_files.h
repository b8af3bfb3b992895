// What each edge says of itself, in a state directory: edges/<instance>.json holds its leader's Exchange::report.
//
// Part of the FileStore. Written under the directory's lock when the text changed, and every minute, since the age of
// the file says whether the edge is alive; where that fails, again after ten seconds. What nobody wrote for an hour is
// removed by whoever writes. Read without a lock.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "shared/state_directory.h"
#include "shared/store.h"

namespace experiment::shared {

class EdgeFiles {
 public:
  // `instance`: 22 base64url characters, or empty for a caller that only reads.
  EdgeFiles(StateDirectory& directory, std::string instance);
  // Keeps the exchange's report.
  void exchange(const Exchange& wants, Answer& answer);
  // By instance; in `error` one line on what cannot be read.
  std::vector<EdgeReport> read(std::string& error) const;

 private:
  void forget_old() const;

  StateDirectory& directory_;
  std::string folder_, instance_;
  WatchedFile file_;
  std::chrono::steady_clock::time_point not_before_{};  // after a fault
};

}  // namespace experiment::shared
