#include "ngx_module/redis_listener.h"

#include <utility>

namespace experiment::ngx {
namespace {

constexpr ngx_msec_t kPingMs = 3000;

shared::RedisLimits small() noexcept {
  shared::RedisLimits limits;
  limits.depth = 2;
  limits.elements = 16;
  limits.bulk_bytes = 4096;
  limits.reply_bytes = 8192;
  return limits;
}

}  // namespace

RedisListener::RedisListener(const StoreConf& store, shared::RedisEndpoint endpoint, std::string channel,
                             std::function<void()> hint, ngx_log_t* log)
    : RedisPeer(store, std::move(endpoint), small(), log), channel_(std::move(channel)), hint_(std::move(hint)) {}

void RedisListener::on_ready() {
  subscribed_ = pinged_ = false;
  set_timer(command_ms());
  transmit(shared::format_command({"SUBSCRIBE", channel_}));
}

// Everything that comes to a subscriber is an array that begins with its kind.
void RedisListener::on_reply(shared::RedisReply reply) {
  if (reply.is_error()) {
    lose("SUBSCRIBE was refused: " + reply.text.substr(0, reply.text.find(' ')), true);
    return tell();
  }
  bool known = reply.is_array() && !reply.items.empty() && reply.items[0].is_text();
  if (!known) return lose("not what a subscriber is told");
  take(reply.items[0].text);
}

void RedisListener::take(const std::string& kind) {
  if (kind == "subscribe") {
    subscribed_ = true;
    told_ = false;
    prove();
    set_timer(kPingMs);
    return hint_();
  }
  if (kind == "message") return hint_();
  if (kind != "pong") return lose("not what a subscriber is told");
  pinged_ = false;
  set_timer(kPingMs);
}

void RedisListener::on_timer() {
  if (!subscribed_ || pinged_)
    return lose(std::string("no answer to ") + (pinged_ ? "PING" : "SUBSCRIBE") + " within " +
                std::to_string(command_ms()) + " ms");
  pinged_ = true;
  set_timer(command_ms());
  transmit(shared::format_command({"PING"}));
}

// Who asks the server tells of all other troubles.
void RedisListener::tell() noexcept {
  if (std::exchange(told_, true)) return;
  ngx_log_error(NGX_LOG_WARN, log(), 0,
                "experiment: changes of the store are seen when it is looked at, not when they are made: %s",
                problem().c_str());
}

void RedisListener::on_lost() noexcept {
  subscribed_ = pinged_ = false;
}

}  // namespace experiment::ngx
