// The runtime state of a state directory: runtime.json, replaced by compare-and-set, never lost while somebody still
// holds it.
//
// Part of the FileStore. It remembers the newest state that it read or wrote; a file that vanished, was damaged, or was
// set back is written again from that, joined with what the file had. Without such a memory a damaged file is refused
// and nothing is written over it: kills live in it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "shared/state_directory.h"
#include "shared/store.h"

namespace experiment::shared {

class RuntimeFile {
 public:
  explicit RuntimeFile(StateDirectory& directory);
  // Answers the runtime's part of an exchange.
  void exchange(const Exchange& wants, Answer& answer);

 private:
  void look(bool in_any_case);
  // Whether the file says less than what this object holds.
  bool behind() const { return newest_ && stored_version_ < newest_->version; }
  void mend(Answer& answer);
  void compare_and_set(const Exchange& wants, Answer& answer);
  bool set_damaged_aside(Answer& answer);
  bool write(Runtime runtime, Answer& answer);

  StateDirectory& directory_;
  WatchedFile file_;
  std::optional<Runtime> newest_;     // the newest state that this object read or wrote
  std::uint64_t stored_version_ = 0;  // of the file; 0: missing or not readable
  std::optional<Runtime> older_;      // what the file holds, where that is older than newest_
  std::string fault_;                 // why the file cannot be read; empty when it can, and when it is missing
  bool damaged_ = false;              // it was read, and is no runtime
};

}  // namespace experiment::shared
