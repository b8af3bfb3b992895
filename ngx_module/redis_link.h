// The link of a leading worker to the fleet's Redis: nginx's event loop keeps the connections, the thread of the
// leader's step waits for replies.
//
// Made and destroyed on the event loop, by the Leader, which leads while it lives: workers that do not lead have no
// connection. round_trip(), keep_only() and listen() are called by one thread at a time, that of the step; they put
// down under a mutex what is wanted, ring, and touch no socket. Called on the event loop itself, which they would wait
// for in vain, round trips are answered `away` at once: a step that runs inline works with what the node has.
//
// A server that hangs or is gone holds up one round trip, the one that finds out, for at most the deadlines of
// RedisAccess. From then on its connection is made anew in the background, and round trips are `away` until it is
// there.
//
// A kill that is made on this machine waits for no server: a round trip that takes long while a file says something
// that the step before did not see is given up, and all others until end_step() are `away`.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "ngx_module/loop_bell.h"
#include "ngx_module/redis_caller.h"
#include "ngx_module/redis_listener.h"
#include "ngx_module/store_conf.h"
#include "shared/redis_link.h"
#include "shared/state_files.h"

namespace experiment::ngx {

class RedisLink final : public shared::RedisLink, private RedisCaller::Asker {
 public:
  // `hint` is called on the event loop: something may have changed at the store. `kill_files`: paths of what kills
  // here.
  RedisLink(const StoreConf& store, std::vector<std::string> kill_files, std::function<void()> hint, ngx_log_t* log);
  ~RedisLink() override;
  RedisLink(const RedisLink&) = delete;
  RedisLink& operator=(const RedisLink&) = delete;

  shared::RedisRoundTrip round_trip(const shared::RedisEndpoint& to, const std::vector<std::string>& commands) override;
  void keep_only(const std::vector<shared::RedisEndpoint>& endpoints) override;
  void listen(const shared::RedisEndpoint& to, const std::string& channel) override;
  // By the same thread: what kills on this machine has been read.
  void end_step();

  // Event loop: does what is wanted since. Called when it rings; a timer may call it as well.
  void pump() noexcept;
  // Event loop: closes everything; who waits is answered, and nothing is asked any more.
  void close() noexcept;
  // Event loop, at the end of the process, when nothing waits: from now on round trips are made here, by waiting for
  // the socket, over connections that are ready, for at most `ms` in all.
  void linger(int ms) noexcept;

 private:
  struct Listening {
    shared::RedisEndpoint to;
    std::string channel;
  };
  bool on_loop() const noexcept { return std::this_thread::get_id() == loop_; }
  shared::RedisRoundTrip wait_for(const std::shared_ptr<RedisRequest>& request);
  std::vector<shared::FileStamp> look_at_kill_files() const;
  shared::RedisRoundTrip ask_here(const std::shared_ptr<RedisRequest>& request);
  void answered(RedisRequest& request) noexcept override;
  void ask(std::shared_ptr<RedisRequest> request);
  void give_up(const RedisRequest& request);
  void drop_others(const std::vector<shared::RedisEndpoint>& endpoints);
  void begin_listening(Listening wanted);

  const StoreConf& store_;
  const std::vector<std::string> kill_files_;
  std::function<void()> hint_;
  ngx_log_t* log_;
  const std::thread::id loop_ = std::this_thread::get_id();

  // Between the two.
  std::mutex mutex_;
  std::condition_variable answered_;
  bool closed_ = false;
  std::shared_ptr<RedisRequest> wanted_request_;
  std::shared_ptr<RedisRequest> given_up_;  // to be told so
  std::optional<std::vector<shared::RedisEndpoint>> wanted_endpoints_;
  std::optional<Listening> wanted_listening_;
  std::unique_ptr<LoopBell> bell_;  // rung under the mutex, so that it is there

  // The step's.
  std::vector<shared::FileStamp> seen_;  // of kill_files_
  bool hurries_ = false;                 // something was killed here: no further round trips

  // The event loop's.
  std::map<shared::RedisEndpoint, std::unique_ptr<RedisCaller>> callers_;
  std::unique_ptr<RedisListener> listener_;
  ngx_msec_t lingers_until_ = 0;  // 0: it does not
};

}  // namespace experiment::ngx
