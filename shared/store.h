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
  bool hint = false;               // something changed, it is said: ask now
  bool counters_only = false;      // at the end of a process: nothing is asked of document and runtime
  std::uint64_t known_others = 0;  // mark of the other instances' totals the caller has
  // Experiments whose totals the caller wants in Answer::others; nullopt: all. A store may answer with more.
  std::optional<std::vector<std::string>> learning;
  // What this edge does, for Store::edges(): a JSON object. Kept when it changed or the store's copy gets old.
  std::optional<std::string> report;
};

struct Answer {
  std::optional<StoredDocument> document;  // newer than known_document
  std::optional<Runtime> runtime;          // other than known_runtime (after a conflict: what won)
  bool runtime_written = false;
  std::uint64_t runtime_version = 0;  // with runtime_written: as which it is stored
  bool runtime_conflict = false;      // somebody else wrote first
  bool runtime_unreadable = false;    // there is one, and it cannot be read: kills may be in it, so this is not "none"
  bool counters_written = false;
  // The store takes counters again that it lacks: it came back, or forgot them. To be offered before their turn.
  bool counters_wanted = false;
  std::optional<Counters>
      own;  // with counters_written: all of this instance's totals, those that its zone has dropped included
  std::optional<Counters> others;  // sum over the other instances, when it changed since known_others
  std::uint64_t others_mark = 0;
  // Whether this node is the one that brings the runtime state in line with documents and allocates; others adopt.
  bool allocates = true;
  std::vector<std::string> notices;   // one line each: changes for the better
  std::vector<std::string> warnings;  // and what somebody should look at
  // One line each: place, what happened, consequence; the rest of the exchange still holds.
  std::vector<std::string> errors;
};

// A document on its way into the store.
struct Publication {
  std::string text;
  std::optional<std::uint64_t> expected;  // the version that it was made from; nullopt: whatever stands there
  std::string by;                         // who publishes
  std::int64_t at_s = 0;                  // unix time
};
struct Published {
  bool written = false;
  bool conflict = false;      // another version stands than was expected; nothing was written
  std::uint64_t version = 0;  // that stands now
  std::string error;          // one line; empty: the store answered
};

struct DocumentVersion {
  std::uint64_t version = 0;
  std::int64_t at_s = 0;  // unix time; 0: not known
  std::string by;
  std::string text;
};

// What somebody did through the store: who, when, what and why.
struct AuditEntry {
  std::int64_t at_s = 0;  // unix time
  std::string by;
  std::string verb;    // "publish", "kill", ...
  std::string target;  // "KEY", "KEY/VARIANT", "*" or empty
  std::string reason;
  std::string detail;  // "definitions 41 -> 42"
};

struct EdgeReport {
  std::string instance;
  std::int64_t age_s = 0;  // since it was written, by the store's clock
  std::string text;        // Exchange::report
};

class Store {
 public:
  virtual ~Store() = default;
  // Never throws for a fault of the store: faults are in Answer::errors, and what could be done was done.
  virtual Answer exchange(const Exchange& wants) = 0;
  // The last document that a node accepted, for a start with a bad or missing current one; nullopt: none was ever kept.
  virtual std::optional<StoredDocument> last_good() = 0;

  // What tools do. `error`: one line, empty when the store answered; what it returns then is all there is.
  // The text is stored as it is: whether a node would accept it is the caller's to check.
  virtual Published publish(const Publication& publication) = 0;
  // Documents that were published, the one that stands included, newest first; older ones are forgotten.
  virtual std::vector<DocumentVersion> history(std::string& error) = 0;
  virtual void record(const AuditEntry& entry, std::string& error) = 0;
  // Newest first, at most `most`.
  virtual std::vector<AuditEntry> audit(std::size_t most, std::string& error) = 0;
  virtual std::vector<EdgeReport> edges(std::string& error) = 0;
};

}  // namespace experiment::shared
