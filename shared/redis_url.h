// Where a Redis store is, as experiment_store and experimentctl --store name it.
//
//   redis://host[:port]                                     rediss:// with TLS
//   unix:/path/to/socket
//   redis+sentinel://host[:port],host[:port]/master         rediss+sentinel:// with TLS
//   redis+cluster://host[:port],host[:port]                 rediss+cluster:// with TLS
//
// Hosts are names, IPv4 addresses or [IPv6] addresses; without a port it is 6379, of sentinels 26379. No I/O, nothing
// is resolved here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace experiment::shared {

struct RedisEndpoint {
  std::string host;  // without brackets; empty for a socket
  std::uint16_t port = 0;
  std::string socket;  // path of a unix socket
  bool operator==(const RedisEndpoint& o) const {
    return std::tie(host, port, socket) == std::tie(o.host, o.port, o.socket);
  }
  bool operator<(const RedisEndpoint& o) const {
    return std::tie(host, port, socket) < std::tie(o.host, o.port, o.socket);
  }
};
// "host:port", "[::1]:6379" or "unix:/path", for messages.
std::string describe(const RedisEndpoint& endpoint);
// Whether servers may name this as a host: a name, an IPv4 or an IPv6 address, without brackets.
bool is_redis_host(std::string_view text);

enum class RedisTopology : std::uint8_t { kSingle, kSentinel, kCluster };

struct StoreUrl {
  RedisTopology topology = RedisTopology::kSingle;
  bool tls = false;
  std::vector<RedisEndpoint> endpoints;  // the server; or sentinels; or nodes of the cluster to begin with
  std::string master;                    // kSentinel: name of the master
};

// A password in the URL is refused: it would stand in nginx.conf and in process lists. Returns: nullopt and one line in
// `error` that names the value and what was expected.
std::optional<StoreUrl> parse_store_url(std::string_view text, std::string& error);
// The URL in one canonical form: lower-case hosts, every port.
std::string describe(const StoreUrl& url);

// Key prefix: letters, digits, "_", "-" and ".", at most 40 characters.
bool is_namespace(std::string_view text);

}  // namespace experiment::shared
