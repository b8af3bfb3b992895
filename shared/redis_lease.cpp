#include "shared/redis_lease.h"

namespace experiment::shared {
namespace {

constexpr auto kLease = std::chrono::milliseconds(3000);

}  // namespace

void RedisLease::see(const std::string& text) {
  if (seen_ && text == text_) return;
  seen_ = true;
  text_ = text;
  holder_ = text.substr(0, text.find(' '));
  moved_ = Clock::now();
}

bool RedisLease::wanted() const {
  if (instance_.empty() || !seen_) return false;
  return held() || holder_.empty() || holder_ == instance_ || Clock::now() - moved_ > kLease;
}

void RedisLease::ask(RedisBatch& batch) {
  RedisCall call;
  call.key = key_;
  call.function = "experiment_lease";
  call.words = {instance_, std::to_string(kLease.count())};
  batch.add(std::move(call), [this, asked = Clock::now()](const RedisReply& reply) { take(reply, asked); });
}

// The lease counts from when it was asked for: the server's own count began later.
void RedisLease::take(const RedisReply& reply, Clock::time_point asked) {
  if (!reply.is_array() || reply.items.size() < 2) return;  // no answer: what was held ends by itself
  holder_ = reply.items[1].text;
  if (number_of(reply.items[0]) == 1) {
    until_ = asked + kLease;
  } else {
    until_ = {};
    moved_ = asked;
  }
}

}  // namespace experiment::shared
