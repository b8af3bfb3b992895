// The counter hashes of a namespace as one node sees them: totals go out as absolute vectors, the fleet's come back.
//
// Part of the RedisStore, one thread at a time. What is sent is merged by max on the server, so that sending again is
// always right: what a server has not acknowledged on the connection in use is dirty, and every vector is sent again a
// minute after it changed and now and then from then on, for a failover forgets without telling. What the server did
// not take is probed: some calls of it with each poll, until one is taken and the rest is wanted. Nothing here waits;
// each function adds to a batch.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "shared/counters.h"
#include "shared/redis_batch.h"

namespace experiment::shared {

class RedisCounters {
 public:
  explicit RedisCounters(std::string space) : space_(std::move(space)) {}

  // Sends what of these totals the store may lack. `instance`: whose they are, this node's or one that is gone.
  void flush(RedisBatch& batch, const std::string& instance, const Counters& totals, std::vector<std::string>& errors);
  // This node's own, which ask() leaves out where the store has dropped its copy of them.
  void keep_own(const Counters& totals) { own_ = totals; }
  // Whether the store has acknowledged all of them.
  bool has(const std::string& instance, const Counters& totals) const;
  void forget(const std::string& instance);

  // Connections over which replies came. Behind a new one may be another server, or one with an older copy: what was
  // acknowledged before is sent again.
  void see(const std::set<std::uint64_t>& connections);
  // The store is known to have forgotten something: everything is sent again, what it had sealed included.
  void forgotten();
  // Sends some of what was not taken once more, to see whether it is now.
  void probe(RedisBatch& batch, std::vector<std::string>& errors);
  // Whether the store lacks something that it would take now: flush() is wanted before its turn.
  bool wanted() const noexcept { return wanted_; }

  // Asks for the fleet's totals of one experiment's generation, without those of `instance`.
  void ask(RedisBatch& batch, const std::string& experiment, std::uint32_t generation, const std::string& instance,
           std::vector<std::string>& errors);
  // Which experiments and generations the store counts, for a caller that wants all.
  void ask_index(RedisBatch& batch, std::set<std::pair<std::string, std::uint32_t>>& out) const;
  // Of what was asked so far; `mark` moves when they change.
  const Counters& others() const noexcept { return others_; }
  std::uint64_t mark() const noexcept { return mark_; }

  std::string key_of(const std::string& experiment, std::uint32_t generation) const;

 private:
  using Clock = std::chrono::steady_clock;
  using Hash = std::pair<std::string, std::uint32_t>;  // experiment, generation
  struct Acknowledged {
    CounterVector vector;
    Clock::time_point again;  // when it is due once more
  };
  struct Sent {
    std::map<CounterKey, Acknowledged> acknowledged;
    std::set<CounterKey> sealed;  // on the server: it takes no more of them
    bool fenced = false;          // nor of anything of this instance
    bool has(const CounterKey& key, const CounterVector& vector) const;
  };
  struct Asked {
    std::uint64_t mark = 0;    // of the hash, at the last answer
    Clock::time_point full{};  // when all of it is due again
  };

  using Entries = std::vector<Counters::value_type>;  // of one hash

  void doubt();
  void drop_refused(const std::string& instance);
  void see_mark(const Hash& hash, std::uint64_t mark, bool created);
  void list(RedisBatch& batch, const Hash& hash, std::vector<std::string>& errors);
  void send(RedisBatch& batch, const std::string& instance, Entries entries, std::vector<std::string>& errors);
  void take_refusal(const std::string& key, const std::string& instance, const RedisReply& reply,
                    std::vector<std::string>& errors);
  void take_statuses(const std::string& instance, const Hash& hash, const Entries& entries, const RedisReply& reply);
  void take_totals(const Hash& hash, const RedisReply& reply);

  std::string space_;
  std::map<std::string, Sent> sent_;  // by instance
  std::set<Hash> listed_;             // in the index
  Clock::time_point list_due_{};
  std::set<std::uint64_t> connections_;
  std::map<Hash, Asked> asked_;
  std::map<Hash, std::uint64_t> newest_;               // mark that the store was seen to have
  using Refused = std::pair<std::string, CounterKey>;  // instance, first entry of the call
  std::map<Refused, Entries> refused_;                 // calls of the last flush that were not taken
  Refused probed_;                                     // the last of them that was probed
  bool wanted_ = false;
  Counters own_, others_;
  std::uint64_t mark_ = 1;
};

}  // namespace experiment::shared
