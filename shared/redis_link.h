// A link to Redis servers: pipelined commands go out, their replies come back, in one round trip to one server.
//
// Two forms. RedisSocket (ctl/redis_socket.h) connects and waits in the calling thread: experimentctl and tests. In a
// worker (ngx_module/redis_link.h) nginx's event loop connects, authenticates and keeps connections, and the thread of
// the leader's step waits for the replies. Neither knows about masters, slots or scripts: that is RedisServers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "shared/redis_reply.h"
#include "shared/redis_url.h"

namespace experiment::shared {

// Who we are to the servers, and how we make sure of them. The password never leaves the file that it is read from.
struct RedisAccess {
  std::string user;           // ACL user; empty: "default"
  std::string password_file;  // its first line; empty: no authentication. Read anew for each connection
  bool tls = false;
  std::string ca_file;                     // empty: the system's
  std::string certificate_file, key_file;  // of a client certificate; both or none
  std::string server_name;                 // that the certificate must have; empty: the host that was named
  int connect_ms = 500;                    // to be connected, TLS and authentication included
  int command_ms = 1000;                   // from sending to the last reply
};

struct RedisRoundTrip {
  // Which connection it was, never the same for two; what a server acknowledged on an earlier one may be forgotten.
  std::uint64_t connection = 0;
  std::vector<RedisReply> replies;  // one per command; fewer only with `error`
  std::string
      error;  // "HOST:PORT: what happened"; empty: all replies are there. Error replies of the server are replies
  // No connection, nothing was sent. `error` says why, and is empty while the first attempt is still under way.
  bool away = false;
  bool refused = false;  // with `error`: authentication or TLS, which only an operator can mend
};

class RedisLink {
 public:
  virtual ~RedisLink() = default;
  // Sends `commands` (each as of format_command) and waits for all replies, at most for the deadlines of RedisAccess.
  // Never throws for a fault of the server or the network. After an error the connection is gone; the next call may
  // make a new one.
  virtual RedisRoundTrip round_trip(const RedisEndpoint& to, const std::vector<std::string>& commands) = 0;
  // Connections to servers that are not named here are not needed any more.
  virtual void keep_only(const std::vector<RedisEndpoint>& endpoints) = 0;
  // Where to listen for pushes on `channel` from now on; a hint that comes is told to whoever made the link.
  virtual void listen(const RedisEndpoint& to, const std::string& channel) = 0;
};

}  // namespace experiment::shared
