// Where the server that an endpoint names can be connected to.
//
// Literal addresses and sockets are had at once, names when the configuration is read or from nginx's resolver
// (redis_peer.h).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ngx_module/store_conf.h"

namespace experiment::ngx {

// nullopt: a name, which has to be resolved; or a path that is too long for a socket.
std::optional<SocketAddress> literal_address(const shared::RedisEndpoint& endpoint);
// An address as a resolver gives it, with the endpoint's port.
SocketAddress address_of(const sockaddr* address, socklen_t length, std::uint16_t port);
// Waits for the system's resolver: only while the configuration is read. Returns: none, and why in `error`.
std::vector<SocketAddress> resolve_now(ngx_conf_t* cf, const shared::RedisEndpoint& endpoint, std::string& error);

}  // namespace experiment::ngx
