// A Redis server that this worker is connected to: resolved, connected, and connected again when that ends.
//
// One attempt is under way at a time. After one that failed the next begins by itself, when shared::Backoff says so.
// Lives on the event loop of the worker that leads. What is said over the connection is the derived classes'.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ngx_module/ngx.h"
#include "ngx_module/redis_connection.h"
#include "ngx_module/store_conf.h"
#include "shared/backoff.h"

namespace experiment::ngx {

class RedisPeer : private RedisConnection::Owner {
 public:
  RedisPeer(const RedisPeer&) = delete;
  RedisPeer& operator=(const RedisPeer&) = delete;
  ~RedisPeer() override;

  const shared::RedisEndpoint& endpoint() const noexcept { return endpoint_; }
  // At the end of the process, when no event loop does: waits for the connection that there is, at most `ms`, and does
  // what events would have done. False: there is none, or nothing came.
  bool wait(int ms) noexcept;
  // Whether the last attempt failed, or the connection that it made, with nothing good since.
  bool has_failed() const noexcept { return failures_ != 0; }
  // Makes no further attempt by itself until it is asked for. One that is under way goes on, and what it brings is
  // there when it is asked for: a server that sentinels name anew was asked a moment before it is not needed.
  void rest() noexcept;

 protected:
  enum class Stage { kIdle, kOpening, kReady, kWaiting };

  RedisPeer(const StoreConf& store, shared::RedisEndpoint endpoint, const shared::RedisLimits& limits, ngx_log_t* log);

  Stage stage() const noexcept { return stage_; }
  ngx_msec_t command_ms() const noexcept { return static_cast<ngx_msec_t>(store_.access.command_ms); }
  ngx_log_t* log() const noexcept { return log_; }
  // Why the last attempt or connection ended, with the server's name.
  const std::string& problem() const noexcept { return problem_; }
  bool refused() const noexcept { return refused_; }
  // Whether it rests, and an attempt would not be too early.
  bool may_open() const noexcept;

  // Begins an attempt. Requires: none is under way.
  void open();
  // Requires: kReady.
  void transmit(std::string bytes);
  // on_timer() comes in so many milliseconds, in place of what was said before. Requires: kReady.
  void set_timer(ngx_msec_t ms) noexcept;
  void clear_timer() noexcept;
  // Never the same for two.
  std::uint64_t connection_id() const noexcept { return id_; }
  // The server did what was asked: later troubles begin anew.
  void prove() noexcept;
  // Closes the connection, or ends the attempt.
  void lose(const std::string& problem, bool refused = false);

 private:
  virtual void on_ready() = 0;
  virtual void on_reply(shared::RedisReply reply) = 0;
  // It is kWaiting again. Does not throw.
  virtual void on_lost() noexcept = 0;
  virtual void on_timer() = 0;
  // Whether nobody waits for anything from the server.
  virtual bool is_idle() const noexcept = 0;

  static void on_event(ngx_event_t* event) noexcept;
  static void on_resolved(ngx_resolver_ctx_t* ctx) noexcept;
  void woken() noexcept override;
  template <typename F>
  void guarded(F&& act) noexcept;
  void resolve();
  void take_addresses(ngx_resolver_ctx_t* ctx);
  void begin_connecting();
  void connect_next();
  void proceed();
  void expire();
  void close() noexcept;

  const StoreConf& store_;
  ngx_log_t* log_;
  shared::RedisEndpoint endpoint_;
  shared::RedisLimits limits_;
  Stage stage_ = Stage::kIdle;
  std::unique_ptr<RedisConnection> connection_;  // kOpening, kReady
  std::uint64_t id_ = 0;                         // of connection_
  ngx_resolver_ctx_t* resolving_ = nullptr;      // kOpening
  std::string resolved_name_;                    // nginx writes into it
  std::vector<SocketAddress> addresses_;         // of the attempt
  std::size_t next_address_ = 0, addresses_left_ = 0;
  std::size_t attempts_ = 0, failures_ = 0;
  shared::Backoff backoff_;
  bool proved_ = false;  // since it was connected
  std::string problem_;
  bool refused_ = false;
  ngx_event_t timer_{};  // of the stage: deadline, next attempt, or the derived class's
};

}  // namespace experiment::ngx
