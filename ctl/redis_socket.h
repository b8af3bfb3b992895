// The RedisLink of tools: connects, logs in and waits in the calling thread; sockets and TLS are its own.
//
// Used by experimentctl and by tests; one thread at a time. Keeps one connection to each server that it was sent to
// until that fails or is not needed any more. Nothing is sent twice: a connection that the server closed meanwhile is
// noticed before anything is sent.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ctl/byte_stream.h"
#include "shared/redis_link.h"

namespace experiment::ctl {

class RedisSocket : public shared::RedisLink {
 public:
  explicit RedisSocket(shared::RedisAccess access);
  ~RedisSocket() override;

  shared::RedisRoundTrip round_trip(const shared::RedisEndpoint& to, const std::vector<std::string>& commands) override;
  void keep_only(const std::vector<shared::RedisEndpoint>& endpoints) override;
  // Nobody waits for pushes here.
  void listen(const shared::RedisEndpoint&, const std::string&) override {}

 private:
  struct Connection;
  // Returns: a connection that is logged in; nullptr, and why in `trip`.
  std::unique_ptr<Connection> connect(const shared::RedisEndpoint& to, shared::RedisRoundTrip& trip);
  StreamFault log_in(Connection& connection, Deadline deadline) const;

  shared::RedisAccess access_;
  std::uint64_t made_ = 0;          // connections so far
  std::unique_ptr<TlsClient> tls_;  // nullptr: plain
  std::map<shared::RedisEndpoint, std::unique_ptr<Connection>> connections_;
};

}  // namespace experiment::ctl
