// Keeps the counter hashes tidy: which epochs there are, which are sealed, and what is not needed any more.
//
// Part of the RedisStore of the node that allocates. Totals of a sealed epoch are final, so its instances' vectors go;
// those of instances that were silent for a month go as well, and leave a tombstone. A former generation's hash goes as
// a whole, a month after it was found to be one. A little is done in each exchange.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "shared/redis_batch.h"
#include "shared/redis_counters.h"
#include "shared/runtime.h"

namespace experiment::shared {

class RedisEpochs {
 public:
  explicit RedisEpochs(const RedisCounters& counters) : counters_(counters) {}

  // The state of `key` was written; `before` is what stood there.
  void note(const std::string& key, const ExperimentRuntime& before, const ExperimentRuntime& after);
  // This node has begun to allocate, or it still does and it is time again: nothing is taken for done.
  void note_all(const Runtime& runtime);
  bool due() const { return Clock::now() >= due_; }
  // The store has forgotten something: nodes get the time to send their vectors again before epochs are sealed anew.
  void postpone();
  // This node does not allocate any more.
  void forget();
  void work(RedisBatch& batch, std::vector<std::string>& errors);

 private:
  using Clock = std::chrono::steady_clock;
  struct Mark {
    const char* function;  // of the library
    std::string key;       // of the hash
    std::vector<std::string> words;
  };
  struct Sweep {
    std::string key, cursor;
  };
  void mark(const char* function, const std::string& key, const EpochRecord& epoch);
  void retire_former();
  void sweep(RedisBatch& batch, std::vector<std::string>& errors);
  void take_page(const std::string& key, const RedisReply& reply);

  const RedisCounters& counters_;
  std::deque<Mark> marks_;
  std::deque<Sweep> sweeps_;
  std::map<std::string, std::uint32_t> generations_;        // that are the current ones
  std::set<std::pair<std::string, std::uint32_t>> listed_;  // hashes that there are
  bool list_due_ = false;
  Clock::time_point due_{};
};

}  // namespace experiment::shared
