// The documents of a state directory that were published or replaced: history/<version>.json, the newest hundred.
//
//   {"version":41,"at_s":1790000000,"by":"experimentctl (user ana)","text":"{ ... }"} in the envelope of checked_json
//
// Part of the FileStore; written by DocumentFiles under the directory's lock, read without.
#pragma once

#include <string>
#include <vector>

#include "shared/state_directory.h"
#include "shared/store.h"

namespace experiment::shared {

class HistoryFiles {
 public:
  explicit HistoryFiles(StateDirectory& directory);
  // Keeps a document, unless it is kept under this version already; forgets those beyond the newest hundred. Requires:
  // the directory's lock is held. Returns an error or nothing.
  std::string keep(const DocumentVersion& document);
  // Newest first; in `error` one line on what cannot be read.
  std::vector<DocumentVersion> read(std::string& error) const;

 private:
  std::string path_of(std::uint64_t version) const;
  std::vector<std::uint64_t> versions(std::string& error) const;  // newest first

  std::string folder_;
};

}  // namespace experiment::shared
