#include "shared/redis_batch.h"

#include <charconv>

#include "shared/redis_topology.h"

namespace experiment::shared {

bool RedisBatch::run(RedisServers& servers, std::vector<std::string>& faults) {
  if (calls_.empty()) return true;
  const RedisAnswers answers = servers.call(calls_);
  const std::vector<Then> then = std::move(then_);
  calls_.clear();
  then_.clear();
  connections_ = {answers.connections.begin(), answers.connections.end()};
  connections_.erase(0);
  for (const std::string& fault : answers.faults) {
    faults.push_back("store: " + fault + (answers.away ? "; the last known state stays in use" : ""));
  }
  for (std::size_t i = 0; i < then.size(); ++i) then[i](answers.replies[i]);
  return !answers.away;
}

bool is_of_key(const RedisReply& reply) noexcept {
  const RedisFault fault = fault_of(reply);
  return fault == RedisFault::kWrongType || fault == RedisFault::kExperiment || fault == RedisFault::kOther ||
         fault == RedisFault::kNone;
}

std::uint64_t number_of(const RedisReply& reply) noexcept {
  if (reply.is_integer()) return reply.integer < 0 ? 0 : static_cast<std::uint64_t>(reply.integer);
  std::uint64_t value = 0;
  const char* end = reply.text.data() + reply.text.size();
  const auto parsed = std::from_chars(reply.text.data(), end, value);
  return reply.is_text() && parsed.ec == std::errc() && parsed.ptr == end ? value : 0;
}

}  // namespace experiment::shared
