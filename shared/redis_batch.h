// Calls of several parts of a store in one round trip, each with what is done with its reply.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "shared/redis_servers.h"

namespace experiment::shared {

class RedisBatch {
 public:
  using Then = std::function<void(const RedisReply& reply)>;

  void add(RedisCall call, Then then) {
    calls_.push_back(std::move(call));
    then_.push_back(std::move(then));
  }
  bool empty() const noexcept { return calls_.empty(); }
  // Sends what was added and hands out the replies, in order. Returns: false when a call reached no server. Lines on
  // what went wrong on the way go to `faults`.
  bool run(RedisServers& servers, std::vector<std::string>& faults);
  // Over which replies came, in the last run().
  const std::set<std::uint64_t>& connections() const noexcept { return connections_; }

 private:
  std::vector<RedisCall> calls_;
  std::vector<Then> then_;
  std::set<std::uint64_t> connections_;
};

// Whether the call's key or its arguments are at fault, not the server or the way there, of which faults tell.
bool is_of_key(const RedisReply& reply) noexcept;
// A reply as an unsigned number in decimal text or as an integer; 0 for anything else.
std::uint64_t number_of(const RedisReply& reply) noexcept;

}  // namespace experiment::shared
