// The counters of a state directory: one file per edge instance, and one for all that are gone.
//
// Part of the FileStore. An instance is alive while somebody holds a shared lock on `counters/<instance>.lock`: its
// leader does, through this object, and nginx's master by hold_instance(), for a zone may be without workers for long
// (an upgrade that may be taken back) or have none but such that drain. The file of an instance that nobody holds and
// nobody wrote for ten minutes is folded into `counters/folded.json`, which names the instances that it counts. The
// rename of that file is the one commit point: readers ignore the file of an instance that is named there, and an
// instance that comes back after it was folded is refused, for its totals would count twice.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "shared/counters.h"
#include "shared/state_directory.h"
#include "shared/store.h"

namespace experiment::shared {

// Held: the instance is alive as long as any process has this lock, those forked since included. Not held: its leader
// will say what is wrong with the directory. Requires: nobody can take this instance for dead, being new or held.
FileLock hold_instance(const std::string& state_directory, const std::string& instance);

class CounterFiles {
 public:
  // What becomes of the files of instances that are gone: one sum, or (where a fleet's store counts by instance) they
  // stay until remove().
  enum class Gone { kFold, kKeep };
  // `instance`: 22 base64url characters, or empty for a caller that only reads.
  CounterFiles(StateDirectory& directory, std::string instance, Gone gone = Gone::kFold);
  // Answers the counters' part of an exchange.
  void exchange(const Exchange& wants, Answer& answer);

  struct Retired {
    std::string instance;
    const Counters* counters;
    std::int64_t age_ns;  // since they were written last
  };
  // Of instances that nobody holds any more, as of the last exchange.
  std::vector<Retired> retired() const;
  void remove(const std::string& instance);

 private:
  struct Copy {
    WatchedFile file;
    Counters counters;  // as last read
    std::string fault;  // why it cannot be read now
  };
  std::string path_of(std::string_view instance, std::string_view ending) const;

  void look_at_others(Answer& answer);
  void look_at_folded(bool in_any_case);
  void sum_others(const Exchange& wants, Answer& answer) const;
  std::uint64_t mark_of_others() const;

  void write_own(const Counters& offered, StateDirectory::Wait wait, Answer& answer);
  bool claim(Answer& answer);
  void look_at_own(bool in_any_case, Answer& answer);

  void fold_dead(Answer& answer);
  bool fold(const std::string& instance, Answer& answer);

  StateDirectory& directory_;
  std::string folder_, instance_;
  Gone gone_;
  FileLock alive_;
  std::map<std::string, Copy, std::less<>> others_;  // by instance
  WatchedFile folded_file_;
  FoldedCounters folded_;
  std::string folded_fault_;
  WatchedFile own_file_;
  Counters own_;             // this instance's totals, what its zone has dropped included
  bool own_stored_ = false;  // the file holds own_
};

}  // namespace experiment::shared
