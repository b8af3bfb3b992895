// The Store of an edge in a fleet: Redis, and the state directory for what must outlive both of them.
//
// Redis decides. The state directory keeps the last good document, the last runtime state and this node's counters, so
// that an edge restarts without Redis and gives back what Redis forgot. Kills that experimentctl writes into the
// directory hold at once and go to the fleet when they can. Totals of instances that are gone (restarts, upgrades) are
// sent again for an hour. A directory belongs to one store (`fleet.json` says which): what it holds of another one, or
// of a node of its own, is moved aside and never mixed in. Used by the leader, in its step's thread; see file_store.h
// for the other files.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "shared/counter_files.h"
#include "shared/document_files.h"
#include "shared/edge_directory.h"
#include "shared/redis_store.h"
#include "shared/runtime_file.h"
#include "shared/state_directory.h"
#include "shared/store.h"

namespace experiment::shared {

class FleetStore : public Store {
 public:
  // `instance`: the zone's id, 22 base64url characters; the same as in `redis`. `name`: of the store, URL and
  // namespace.
  FleetStore(std::unique_ptr<RedisStore> redis, std::string name, std::string directory, const std::string& instance);
  FleetStore(const FleetStore&) = delete;
  FleetStore& operator=(const FleetStore&) = delete;

  Answer exchange(const Exchange& wants) override;
  std::optional<StoredDocument> last_good() override;
  Published publish(const Publication& publication) override { return redis_->publish(publication); }
  std::vector<DocumentVersion> history(std::string& error) override { return redis_->history(error); }
  void record(const AuditEntry& entry, std::string& error) override { redis_->record(entry, error); }
  std::vector<AuditEntry> audit(std::size_t most, std::string& error) override { return redis_->audit(most, error); }
  std::vector<EdgeReport> edges(std::string& error) override { return redis_->edges(error); }

 private:
  using Clock = std::chrono::steady_clock;
  void begin(Answer& answer);
  bool is_ours() const;
  bool take(Answer& answer);
  void move_aside(Answer& answer);
  void tell_dropped_kills(Answer& answer);
  void look_at_runtime(Answer& answer);
  void keep_runtime(Answer& answer);
  void keep_counters(const Exchange& wants, Exchange& remote, Answer& answer);
  void replay_retired();

  std::unique_ptr<RedisStore> redis_;
  std::string name_;
  StateDirectory directory_;
  EdgeDirectory belongs_;
  DocumentFiles documents_;
  RuntimeFile runtime_;
  CounterFiles counters_;
  bool begun_ = false;
  std::uint64_t file_version_ = 0;          // of runtime.json
  std::uint64_t kept_ = ~std::uint64_t{0};  // revision of the runtime state that runtime.json holds
  std::string kept_kills_;
  Clock::time_point keep_due_{};
};

}  // namespace experiment::shared
