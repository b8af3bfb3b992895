// The Store of a fleet: one Redis server, a master that sentinels watch, or a cluster; see redis_servers.h.
//
//   NAMESPACE:ctl                 document, runtime state, who allocates (redis_control.h, redis_lease.h)
//   NAMESPACE:c:KEY:GENERATION    counters of an experiment (redis_counters.h, redis_epochs.h), listed in
//   NAMESPACE:index NAMESPACE:history, :audit, :edges    what people ask for (redis_records.h) NAMESPACE:push channel:
//   something changed
//
// One key per call. In the steady state an exchange is one round trip a second, with all that is to be sent. Used by
// the leader of each edge within a FleetStore (in its step's thread) and by experimentctl. Nothing waits but the link.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "shared/redis_control.h"
#include "shared/redis_counters.h"
#include "shared/redis_epochs.h"
#include "shared/redis_records.h"
#include "shared/redis_servers.h"
#include "shared/store.h"

namespace experiment::shared {

struct RedisStoreOptions {
  std::string space = "experiment";   // the namespace
  std::string instance;               // of an edge; empty for a tool
  std::chrono::milliseconds poll{0};  // how often the store is asked what is new; 0: at each exchange
  StoreHealth* health = nullptr;      // of an edge; outlives the store
};

class RedisStore : public Store {
 public:
  RedisStore(std::unique_ptr<RedisServers> servers, RedisStoreOptions options, RandomBits random);
  RedisStore(const RedisStore&) = delete;
  RedisStore& operator=(const RedisStore&) = delete;

  Answer exchange(const Exchange& wants) override;
  std::optional<StoredDocument> last_good() override { return std::nullopt; }
  Published publish(const Publication& publication) override;
  std::vector<DocumentVersion> history(std::string& error) override;
  void record(const AuditEntry& entry, std::string& error) override { records_.record(entry, error); }
  std::vector<AuditEntry> audit(std::size_t most, std::string& error) override { return records_.audit(most, error); }
  std::vector<EdgeReport> edges(std::string& error) override { return records_.edges(error); }

  // What this node has on its disk, see RedisControl::offer.
  void offer(const Runtime& known) { control_.offer(known); }
  void offer(const StoredDocument& known) { control_.offer(known); }
  const Runtime& runtime() const noexcept { return control_.runtime(); }
  std::uint64_t runtime_revision() const noexcept { return control_.revision(); }
  // Totals of an instance that is gone: sent with every flush until they are forgotten.
  void replay(const std::string& instance, Counters totals) { gone_[instance] = std::move(totals); }
  bool has_all_of(const std::string& instance) const;
  void forget(const std::string& instance);

 private:
  using Clock = std::chrono::steady_clock;
  bool is_due(const Exchange& wants) const;
  void flush(const Exchange& wants, RedisBatch& batch, Answer& answer);
  void ask_totals(const Exchange& wants, Answer& answer, RedisBatch& batch);
  void tend_epochs(Answer& answer);
  void reach(RedisBatch& batch, Answer& answer);
  void note_answer();

  std::unique_ptr<RedisServers> servers_;
  RedisStoreOptions options_;
  RedisControl control_;
  RedisCounters counters_;
  RedisEpochs epochs_;
  RedisRecords records_;
  std::map<std::string, Counters> gone_;
  Clock::time_point asked_{};  // when the last poll was answered
  Clock::time_point away_since_{}, watched_until_{};
  bool away_ = false, told_away_ = false, allocated_ = false;
};

}  // namespace experiment::shared
