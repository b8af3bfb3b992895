// The control key of a namespace as one node sees it: the document, the runtime state, who allocates.
//
// Part of the RedisStore, one thread at a time. It keeps the newest state that it read, wrote or was offered. The store
// only goes forward: each change has an id, its number and random bits. When the id that this node knows is not in the
// store's log, the store has forgotten something (a failover, an old copy): then what both know is joined, and what the
// store lacks is written back before anything else.
//
// Steps of an exchange: ask() puts the poll into a batch; settle() reads what changed and gives back what was
// forgotten; write() is the caller's compare-and-set; hand_out() answers.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "shared/reconcile.h"
#include "shared/redis_batch.h"
#include "shared/redis_lease.h"
#include "shared/runtime.h"
#include "shared/store.h"

namespace experiment::shared {

// What changed in the control key: field names and their values.
using ControlFields = std::vector<std::pair<std::string, std::string>>;

class RedisControl {
 public:
  // `instance`: of an edge, which may allocate; empty for a tool, which is handed every document at once.
  RedisControl(RedisServers& servers, const std::string& space, const std::string& instance, RandomBits random);

  void ask(RedisBatch& batch);
  void settle(Answer& answer);
  void write(const Exchange& wants, Answer& answer);
  void hand_out(const Exchange& wants, Answer& answer);

  // What else is known, from this node's disk: joined, and written to the store where that lacks it.
  void offer(const Runtime& known);
  void offer(const StoredDocument& known);
  // Moves when runtime() does.
  std::uint64_t revision() const noexcept { return revision_; }

  // Whether the store was seen to have gone back to an earlier state; says so once.
  bool take_forgotten() noexcept { return std::exchange(forgotten_, false); }

  // Whether the last ask() was answered.
  bool answered() const noexcept { return answered_; }
  const RedisLease& lease() const noexcept { return lease_; }
  const Runtime& runtime() const noexcept { return newest_; }
  // The document that stands, with who published it and when.
  const DocumentVersion& document() const noexcept { return document_; }
  // Publishes the next version. False: not written; `conflict` when the store has moved on (settle() again).
  bool publish(const Publication& publication, bool& conflict, Answer& answer);

  // What became of epochs by a write, for the counter hashes: experiments with the state before it.
  std::map<std::string, ExperimentRuntime> take_rewritten() { return std::move(rewritten_); }

 private:
  enum class Sent : std::uint8_t { kWritten, kConflict, kFailed };

  bool read_changes(Answer& answer);
  void take_changes(const RedisReply& reply, Answer& answer);
  void take_field(const std::string& name, const std::string& value, bool joined, Answer& answer);
  void take_experiment(const std::string& key, ExperimentRuntime theirs, bool joined);
  void take_document(const std::string& meta, const std::string& text, bool joined, Answer& answer);
  void lack_what_is_missing(const std::set<std::string>& there);
  void mend(Answer& answer);
  ControlFields fields_ahead() const;
  ControlFields differences(const Runtime& next) const;
  void refresh() noexcept {
    fresh_runtime_ = true;
    ++revision_;
  }
  void keep_kills(const Runtime& from);
  Sent send(const ControlFields& fields, Answer& answer);

  RedisServers& servers_;
  std::string key_, channel_;
  bool edge_;
  RandomBits random_;
  RedisLease lease_;

  bool answered_ = false;
  std::string refusal_;                 // why the key could not be read
  std::uint64_t known_ = 0, seen_ = 0;  // change ids: of what was read, and of what the store was seen to have
  Runtime newest_;
  DocumentVersion document_;
  std::uint64_t revision_ = 0;
  bool fresh_runtime_ = false, fresh_document_ = false;  // something that no answer had yet
  bool forgotten_ = false;
  bool unreadable_ = false;      // a part of the runtime state cannot be read, and none is known
  std::set<std::string> ahead_;  // fields that this node has to give back
  std::map<std::string, ExperimentRuntime> rewritten_;
};

}  // namespace experiment::shared
