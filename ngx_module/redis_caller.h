// A Redis server that is asked: one request of pipelined commands at a time, and all replies to it.
#pragma once

#include <memory>
#include <string>

#include "ngx_module/redis_peer.h"
#include "shared/redis_link.h"

namespace experiment::ngx {

// Made by the thread that asks. The event loop fills `outcome`; who may look at it when is the link's to say.
struct RedisRequest {
  shared::RedisEndpoint to;
  std::string bytes;      // all commands; taken when they are sent
  std::size_t count = 0;  // of them
  shared::RedisRoundTrip outcome;
  bool done = false;
};

class RedisCaller final : public RedisPeer {
 public:
  class Asker {
   public:
    virtual ~Asker() = default;
    virtual void answered(RedisRequest& request) noexcept = 0;
  };

  RedisCaller(const StoreConf& store, shared::RedisEndpoint endpoint, Asker& asker, ngx_log_t* log);

  // Sends it over the connection that there is. Without one it waits for the first attempt, and is answered `away` at
  // once when that has failed.
  void ask(std::shared_ptr<RedisRequest> request);
  // Ends the connection, or the attempt, if it is this request that waits.
  void give_up(const RedisRequest& request);
  // Whether a request could be sent at once.
  bool is_ready() const noexcept { return stage() == Stage::kReady && request_ == nullptr; }

 private:
  void on_ready() override;
  void on_reply(shared::RedisReply reply) override;
  void on_lost() noexcept override;
  void on_timer() override;
  bool is_idle() const noexcept override { return request_ == nullptr; }
  void begin();
  void answer() noexcept;

  Asker& asker_;
  std::shared_ptr<RedisRequest> request_;
  bool sent_ = false;
};

}  // namespace experiment::ngx
