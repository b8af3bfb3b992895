// A connection to a server, plain or TLS, over TCP or a unix socket: bytes out, bytes in, until a deadline.
//
// Owned by RedisSocket; blocks the calling thread by poll(), never by the socket, and raises no SIGPIPE. Names are
// resolved by the system (getaddrinfo), which may take longer than the deadline.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "ctl/tls_client.h"
#include "shared/redis_url.h"

namespace experiment::ctl {

using Deadline = std::chrono::steady_clock::time_point;

struct StreamFault {
  std::string text;      // what happened, without the server's name; empty: nothing
  bool refused = false;  // TLS, which only an operator can mend
};

class ByteStream {
 public:
  // `tls`: nullptr for none. Returns: nullptr and why.
  static std::unique_ptr<ByteStream> open(const shared::RedisEndpoint& to, const TlsClient* tls, Deadline deadline,
                                          StreamFault& fault);
  ~ByteStream();
  ByteStream(const ByteStream&) = delete;
  ByteStream& operator=(const ByteStream&) = delete;

  // Sends `out` and gives what comes to `take` until that returns false: it has what it waits for. Both at once, so
  // that a server may answer before it has read everything.
  StreamFault exchange(std::string_view out, const std::function<bool(std::string_view)>& take, Deadline deadline);
  // Whether the server has neither hung up nor said anything since.
  bool idle();

 private:
  explicit ByteStream(int socket) : socket_(socket) {}
  struct Step {
    std::size_t bytes = 0;
    short wait = 0;  // events of poll() without which it cannot go on; 0 without bytes: the end
    StreamFault fault;
  };
  Step write_some(std::string_view bytes);
  Step read_some(char* into, std::size_t most);
  Step ssl_step(int result);
  StreamFault shake_hands(Deadline deadline);
  // Returns: whether there is news before the deadline.
  bool wait_for(short events, Deadline deadline) const;

  int socket_;
  Ssl ssl_;  // nullptr: plain
};

}  // namespace experiment::ctl
