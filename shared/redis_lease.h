// Who of a fleet brings the runtime state in line with documents and allocates: a lease in the control key.
//
// Part of the RedisControl. The lease saves work, compare-and-set gives safety: two that think they hold it cannot
// write over each other. Its text changes with every renewal, so that others see by their own clocks that it stands
// still; its end is by the server's clock.
#pragma once

#include <chrono>
#include <string>

#include "shared/redis_batch.h"

namespace experiment::shared {

class RedisLease {
 public:
  // `instance`: empty for a tool, which never holds it.
  RedisLease(std::string key, std::string instance) : key_(std::move(key)), instance_(std::move(instance)) {}

  // Holds it, by this machine's clock.
  bool held() const { return Clock::now() < until_; }
  // The lease's text as a poll brought it; empty: there is none.
  void see(const std::string& text);
  // Whether it is this node's to renew, or free, or its holder is silent.
  bool wanted() const;
  void ask(RedisBatch& batch);
  // Who holds it, for people.
  const std::string& holder() const noexcept { return holder_; }

 private:
  using Clock = std::chrono::steady_clock;
  void take(const RedisReply& reply, Clock::time_point asked);

  std::string key_, instance_;
  bool seen_ = false;
  std::string text_, holder_;
  Clock::time_point moved_{};  // when text_ was seen to change
  Clock::time_point until_{};
};

}  // namespace experiment::shared
