// The audit log of a state directory: audit.jsonl, a JSON object per line; behind 4 MiB it becomes audit.1.jsonl, and
// the one before is forgotten.
//
// Part of the FileStore; written under the directory's lock, on the disk when record() returns, read without a lock.
#pragma once

#include <string>
#include <vector>

#include "shared/state_directory.h"
#include "shared/store.h"

namespace experiment::shared {

class AuditFile {
 public:
  explicit AuditFile(StateDirectory& directory) : directory_(directory) {}
  void record(const AuditEntry& entry, std::string& error);
  // Newest first, at most `most`; in `error` one line on what cannot be read.
  std::vector<AuditEntry> read(std::size_t most, std::string& error) const;

 private:
  StateDirectory& directory_;
};

}  // namespace experiment::shared
