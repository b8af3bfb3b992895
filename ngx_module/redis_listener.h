// A Redis server that tells of changes: subscribed to one channel, and looked after, since a connection that is only
// listened to does not show that it is dead.
//
// What is published there is a hint that a look at the store is worth it, and so is each subscription: something may
// have been missed before. Messages are not read.
#pragma once

#include <functional>
#include <string>

#include "ngx_module/redis_peer.h"

namespace experiment::ngx {

class RedisListener final : public RedisPeer {
 public:
  // Begins at once. `hint` is called on the event loop and must not end this object.
  RedisListener(const StoreConf& store, shared::RedisEndpoint endpoint, std::string channel, std::function<void()> hint,
                ngx_log_t* log);

  const std::string& channel() const noexcept { return channel_; }
  void start() { open(); }

 private:
  void on_ready() override;
  void on_reply(shared::RedisReply reply) override;
  void on_lost() noexcept override;
  void on_timer() override;
  bool is_idle() const noexcept override { return subscribed_ && !pinged_; }
  void take(const std::string& kind);
  void tell() noexcept;

  std::string channel_;
  std::function<void()> hint_;
  bool subscribed_ = false;
  bool pinged_ = false;
  bool told_ = false;  // that SUBSCRIBE is refused
};

}  // namespace experiment::ngx
