// The store as the verbs use it: read once, or changed by compare-and-set until it holds.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "bandit/definition.h"
#include "ctl/output.h"
#include "shared/file_store.h"

namespace experiment::ctl {

struct Snapshot {
  shared::Runtime runtime;
  std::uint64_t document_version = 0;  // 0: there is no document that a node would accept
  bandit::Document document;
  shared::Counters totals;  // of all edge instances

  const bandit::Experiment* find(const std::string& key) const;
};

class State {
 public:
  State(std::string directory, Output& output);

  // Returns kOk, or the exit code of a failure that was reported.
  int read(Snapshot& out);
  // Reads, lets `edit` change the runtime, writes; again with what won when somebody else wrote meanwhile. On the disk
  // when it returns kOk. `edit` sets `changed` to have its change written; an exit code other than kOk, which it
  // reported, ends everything.
  int update(const std::function<int(Snapshot&, bool& changed)>& edit, Snapshot& out);

 private:
  int take(shared::Answer& answer, Snapshot& out);

  std::string directory_;
  Output& output_;
  shared::FileStore store_;
};

}  // namespace experiment::ctl
