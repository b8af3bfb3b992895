// The Store in a directory: the embedded default, which needs no server.
//
//   definitions.json          the document, edited by people and tools
//   definitions.good.json     the last document that a node accepted
//   store.json                the version of the document
//   history/<version>.json    documents that were published or replaced
//   audit.jsonl               what people did through tools
//   runtime.json              the runtime state
//   counters/<instance>.json  totals of an edge instance
//   counters/folded.json      totals of instances that are gone
//   edges/<instance>.json     what an edge says of itself
//   lock, counters/*.lock     advisory locks (flock): who writes, who is alive
//   *.corrupt-<n>             damaged files, kept as evidence
//
// Used by the leader of each nginx (with its instance id, in the thread pool) and by experimentctl (without). Readers
// take no lock; writes happen under `lock`, by rename, and are on the disk before exchange() returns. An idle exchange
// costs a few stats. The directory is made on the first write when its parent exists. No globals; destroying an object
// releases its instance.
#pragma once

#include <optional>
#include <string>

#include "shared/audit_file.h"
#include "shared/counter_files.h"
#include "shared/document_files.h"
#include "shared/edge_directory.h"
#include "shared/edge_files.h"
#include "shared/runtime_file.h"
#include "shared/state_directory.h"
#include "shared/store.h"

namespace experiment::shared {

class FileStore : public Store {
 public:
  // Does not touch the disk. `instance`: the zone's id, 22 base64url characters; empty for a tool: then all instances
  // are the others.
  explicit FileStore(std::string directory, std::string instance = {});
  FileStore(const FileStore&) = delete;
  FileStore& operator=(const FileStore&) = delete;

  Answer exchange(const Exchange& wants) override;
  std::optional<StoredDocument> last_good() override;
  Published publish(const Publication& publication) override;
  std::vector<DocumentVersion> history(std::string& error) override;
  void record(const AuditEntry& entry, std::string& error) override;
  std::vector<AuditEntry> audit(std::size_t most, std::string& error) override;
  std::vector<EdgeReport> edges(std::string& error) override;

 private:
  template <typename Function>
  auto answered(std::string& error, Function function) -> decltype(function());

  void leave_fleet();

  StateDirectory directory_;
  bool edge_;
  bool left_ = false;  // the fleet that the directory belonged to
  DocumentFiles documents_;
  RuntimeFile runtime_;
  CounterFiles counters_;
  EdgeFiles edges_;
  AuditFile audit_;
};

}  // namespace experiment::shared
