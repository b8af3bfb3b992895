// The Store: where the document, the runtime state and the counters outlive a node. One interface, one test suite,
// several forms.
//
// The leader knows what it has; once a tick it offers what it wants written and gets what changed, in one exchange.
// Exchanges block (files: a few stats when nothing changed, an fsync when something is written), so the module runs
// them in nginx's thread pool. An object of this class is used by one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "shared/counters.h"
#include "shared/runtime.h"

namespace experiment::shared {

struct StoredDocument {
  std::uint64_t version = 0;  // given by the store to each new content it sees
  std::string text;           // JSON as published; valid or not: the reader validates
};

struct Exchange {
  std::uint64_t known_document = 0;  // versions the caller has; 0: none
  std::uint64_t known_runtime = 0;
  // To write: taken only if the stored version is known_runtime, and then stored as known_runtime + 1.
  std::optional<Runtime> runtime;
  std::optional<Counters> counters;  // this instance's absolute totals; merged by max into what the store holds of it
  // The text that was accepted as `known_document`: kept as the last good one.
  std::optional<std::string> good_document;
  bool counters_only = false;      // at the end of a process: nothing is asked of document and runtime
  std::uint64_t known_others = 0;  // mark of the other instances' totals the caller has
};

struct Answer {
  std::optional<StoredDocument> document;  // newer than known_document
  std::optional<Runtime> runtime;          // other than known_runtime (after a conflict: what won)
  bool runtime_written = false;
  bool runtime_conflict = false;    // somebody else wrote first
  bool runtime_unreadable = false;  // there is one, and it cannot be read: kills may be in it, so this is not "none"
  bool counters_written = false;
  std::optional<Counters>
      own;  // with counters_written: all of this instance's totals, those that its zone has dropped included
  std::optional<Counters> others;  // sum over the other instances, when it changed since known_others
  std::uint64_t others_mark = 0;
  // One line each: place, what happened, consequence; the rest of the exchange still holds.
  std::vector<std::string> errors;
};

class Store {
 public:
  virtual ~Store() = default;
  // Never throws for a fault of the store: faults are in Answer::errors, and what could be done was done.
  virtual Answer exchange(const Exchange& wants) = 0;
  // The last document that a node accepted, for a start with a bad or missing current one; nullopt: none was ever kept.
  virtual std::optional<StoredDocument> last_good() = 0;
};

}  // namespace experiment::shared
