// The store as the verbs use it: read once, or changed by compare-and-set until it holds, and who did it on record.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ctl/output.h"
#include "shared/definition_json.h"
#include "shared/store.h"

namespace experiment::ctl {

struct Snapshot {
  shared::Runtime runtime;
  shared::StoredDocument stored;       // what stands, whether a node would accept it or not; version 0: nothing does
  std::string refusal;                 // why a node would not accept it; empty: it would
  std::uint64_t document_version = 0;  // of what nodes use; 0: there is nothing that they could
  shared::ParsedDocument parsed;       // that document
  shared::Counters totals;             // of all edge instances, where they were asked for

  const bandit::Experiment* find(const std::string& key) const;
};

class State {
 public:
  // `place`: how messages call the store.
  State(std::unique_ptr<shared::Store> store, std::string place, Output& output);

  Output& output() { return output_; }
  shared::Store& store() { return *store_; }
  const std::string& place() const { return place_; }

  // Returns kOk, or the exit code of a failure that was reported.
  int read(Snapshot& out, bool totals = false);
  // Says nothing: faults are in `errors`. Returns: whether the runtime state could be read.
  bool look(Snapshot& out, std::vector<std::string>& errors, bool totals = false);
  // Reads, lets `edit` change the runtime, writes; again with what won when somebody else wrote meanwhile. In the store
  // when it returns kOk. `edit` sets `changed` to have its change written; an exit code other than kOk, which it
  // reported, ends everything.
  int update(const std::function<int(Snapshot&, bool& changed)>& edit, Snapshot& out);
  // As Store::publish, by whoever runs this command, now.
  shared::Published publish(const std::string& text, std::uint64_t expected);
  // Puts an act on record. What was done stays done when that fails: then it warns.
  void record(const std::string& verb, const std::string& target, const std::string& reason, const std::string& detail);

 private:
  void take_document(Snapshot& out);

  std::unique_ptr<shared::Store> store_;
  std::string place_;
  Output& output_;
};

// Unix time.
std::int64_t now_s();

}  // namespace experiment::ctl
