// A state directory as a whole: the names in it, and the right to write there.
//
// Writers of one directory are the leader of each nginx that uses it and experimentctl. Every write happens under the
// directory's lock, which is held for that write only; a writer that does not get it within a quarter of a second
// reports so and tries again next time. One that has no next time, since its process ends, waits two seconds: all
// workers of a node end at once. Readers take no lock: files are replaced by rename.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "shared/state_files.h"

namespace experiment::shared {

// Ids of edge instances, which name files: 22 base64url characters.
inline constexpr std::size_t kInstanceLength = 22;
bool is_instance(std::string_view name);

class StateDirectory {
 public:
  // Does not touch the disk.
  explicit StateDirectory(std::string path) : path_(std::move(path)) {}

  std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }
  enum class Wait { kForNow, kForLastTime };
  // The right to write; makes the directory when only its parent exists, and clears away what a dead writer left.
  FileLock lock(Wait wait = Wait::kForNow);

 private:
  std::string path_;
  bool swept_ = false;
};

}  // namespace experiment::shared
