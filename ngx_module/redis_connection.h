// One connection to a Redis server on nginx's event loop: connected, encrypted, authenticated, then bytes out and
// replies in.
//
// Made and used by a RedisPeer, on the event loop of the worker that leads. It calls nobody but Owner::woken(), as the
// last thing that an event does, so that its owner may destroy it there. Deadlines are the owner's.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "ngx_module/fault_log.h"
#include "ngx_module/ngx.h"
#include "ngx_module/store_conf.h"
#include "shared/redis_reply.h"

namespace experiment::ngx {

class RedisConnection {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    // Something came or went: progress() is wanted.
    virtual void woken() noexcept = 0;
  };
  enum class State { kOpening, kReady, kBroken };

  // `host`: as the endpoint names it, for TLS.
  RedisConnection(const StoreConf& store, const SocketAddress& to, const std::string& host,
                  const shared::RedisLimits& limits, Owner& owner, ngx_log_t* log);
  ~RedisConnection();
  RedisConnection(const RedisConnection&) = delete;
  RedisConnection& operator=(const RedisConnection&) = delete;

  // Goes on as far as it comes without waiting. The first call connects.
  State progress();
  State state() const noexcept { return state_; }
  // Requires: kReady, and all replies to what was given before.
  void send(std::string bytes);
  // The next reply to what was sent. What came before the connection broke can still be had.
  std::optional<shared::RedisReply> next();

  // kOpening: what is waited for.
  const char* waits_for() const noexcept;
  // kBroken: what happened; and whether it is authentication or TLS, which only an operator can mend.
  const std::string& problem() const noexcept { return problem_; }
  bool refused() const noexcept { return refused_; }

  // Waits for the socket, here: at the end of the process, when no event loop does. Returns: whether something may
  // have come or can go out.
  bool wait(int ms) noexcept;

 private:
  enum class Phase { kNew, kConnecting, kHandshaking, kGreeting, kGreeted };

  static void on_event(ngx_event_t* event) noexcept;
  static void on_handshake(ngx_connection_t* c) noexcept;

  void connect();
  void finish_connect();
  void connected();
  void begin_handshake();
  void finish_handshake(ngx_int_t rc);
  void greet();
  void take_greeting();
  bool is_welcome(const shared::RedisReply& reply);
  void write();
  void read();
  void fail(std::string problem, bool refused = false);
  bool is_broken() const noexcept { return state_ == State::kBroken; }

  const StoreConf& store_;
  SocketAddress to_;
  std::string host_;
  Owner& owner_;
  FaultLog fault_log_;
  shared::RedisReader reader_;
  ngx_connection_t* c_ = nullptr;
  ngx_str_t name_{};  // of to_, as nginx wants it
  State state_ = State::kOpening;
  Phase phase_ = Phase::kNew;
  bool shaken_ = false;  // the handshake ended in an event
  std::string out_;
  std::size_t sent_ = 0;
  bool secret_ = false;  // out_ holds the password
  int greeted_ = 0;      // replies to the greeting
  std::string problem_;
  bool refused_ = false;
};

}  // namespace experiment::ngx
