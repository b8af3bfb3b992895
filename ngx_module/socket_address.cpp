#include "ngx_module/socket_address.h"

#include <arpa/inet.h>

#include <algorithm>

namespace experiment::ngx {
namespace {

std::string name_of(SocketAddress& address) {
  u_char text[NGX_SOCKADDR_STRLEN];
  std::size_t n = ngx_sock_ntop(&address.at.sockaddr, address.length, text, sizeof(text), 1);
  return {reinterpret_cast<char*>(text), n};
}

std::optional<SocketAddress> socket_address(const std::string& path) {
  SocketAddress address;
  auto& to = address.at.sockaddr_un;
  if (path.size() >= sizeof(to.sun_path)) return std::nullopt;
  to = {};
  to.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), to.sun_path);
  address.length = sizeof(sockaddr_un);
  address.name = "unix:" + path;
  return address;
}

}  // namespace

SocketAddress address_of(const sockaddr* from, socklen_t length, std::uint16_t port) {
  SocketAddress address;
  address.length = std::min<socklen_t>(length, sizeof(address.at));
  std::memcpy(&address.at, from, address.length);
  ngx_inet_set_port(&address.at.sockaddr, port);
  address.name = name_of(address);
  return address;
}

std::optional<SocketAddress> literal_address(const shared::RedisEndpoint& endpoint) {
  if (!endpoint.socket.empty()) return socket_address(endpoint.socket);
  sockaddr_in four{};
  four.sin_family = AF_INET;
  if (inet_pton(AF_INET, endpoint.host.c_str(), &four.sin_addr) == 1)
    return address_of(reinterpret_cast<sockaddr*>(&four), sizeof(four), endpoint.port);
#if (NGX_HAVE_INET6)
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  if (inet_pton(AF_INET6, endpoint.host.c_str(), &six.sin6_addr) == 1)
    return address_of(reinterpret_cast<sockaddr*>(&six), sizeof(six), endpoint.port);
#endif
  return std::nullopt;
}

std::vector<SocketAddress> resolve_now(ngx_conf_t* cf, const shared::RedisEndpoint& endpoint, std::string& error) {
  ngx_url_t url{};
  url.url = copy(cf->pool, endpoint.host);
  url.default_port = endpoint.port;
  if (url.url.data == nullptr || ngx_parse_url(cf->pool, &url) != NGX_OK) {
    error = url.err != nullptr ? url.err : "out of memory";
    return {};
  }
  std::vector<SocketAddress> addresses;
  for (ngx_uint_t i = 0; i < url.naddrs; ++i)
    addresses.push_back(address_of(url.addrs[i].sockaddr, url.addrs[i].socklen, endpoint.port));
  if (addresses.empty()) error = "no address";
  return addresses;
}

}  // namespace experiment::ngx
