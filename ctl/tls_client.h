// TLS towards Redis servers: TLS 1.2 or later, with a certificate of an authority that is trusted and of the very host.
//
// Made from RedisAccess once per RedisSocket, then used for each connection, in the thread of the RedisSocket.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "shared/redis_link.h"

namespace experiment::ctl {

struct FreeSsl {
  void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
};
using Ssl = std::unique_ptr<SSL, FreeSsl>;

class TlsClient {
 public:
  explicit TlsClient(const shared::RedisAccess& access);

  // A session over the connected, non-blocking `socket`, not shaken hands yet; `host` is whom the certificate must name
  // unless RedisAccess::server_name says otherwise. Returns: nullptr and a reason in `error`.
  Ssl session(int socket, const std::string& host, std::string& error) const;

 private:
  // Returns: why the context cannot be used, empty if it can.
  std::string load(const shared::RedisAccess& access);

  std::unique_ptr<SSL_CTX, FreeSsl> context_;
  std::string server_name_;
  std::string error_;
};

// Why OpenSSL failed last, in this thread; clears its queue.
std::string tls_error();

}  // namespace experiment::ctl
