#include "shared/redis_url.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace experiment::shared {
namespace {

constexpr std::uint16_t kServerPort = 6379;
constexpr std::uint16_t kSentinelPort = 26379;
constexpr std::size_t kMaxEndpoints = 64;
constexpr std::size_t kMaxHost = 255;
constexpr std::size_t kMaxMaster = 100;
constexpr std::size_t kMaxSocket = 107;  // sun_path less its NUL
constexpr std::size_t kMaxNamespace = 40;

struct Scheme {
  std::string_view prefix;
  RedisTopology topology;
  bool tls;
  std::string_view form;
};
constexpr std::array<Scheme, 6> kSchemes = {{
    {"redis://", RedisTopology::kSingle, false, "redis://host[:port]"},
    {"rediss://", RedisTopology::kSingle, true, "rediss://host[:port]"},
    {"redis+sentinel://", RedisTopology::kSentinel, false, "redis+sentinel://host[:port],host[:port]/master"},
    {"rediss+sentinel://", RedisTopology::kSentinel, true, "rediss+sentinel://host[:port],host[:port]/master"},
    {"redis+cluster://", RedisTopology::kCluster, false, "redis+cluster://host[:port],host[:port]"},
    {"rediss+cluster://", RedisTopology::kCluster, true, "rediss+cluster://host[:port],host[:port]"},
}};
constexpr std::string_view kUnix = "unix:";

bool is_word(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}
bool is_name(std::string_view text, std::size_t most) noexcept {
  return !text.empty() && text.size() <= most && std::all_of(text.begin(), text.end(), is_word);
}
bool is_address6(std::string_view text) {
  in6_addr address;
  return text.find('\0') == std::string_view::npos && inet_pton(AF_INET6, std::string(text).c_str(), &address) == 1;
}

// "" or ":port". Returns: nullopt if it is neither.
std::optional<std::uint16_t> parse_port(std::string_view text, std::uint16_t otherwise) {
  if (text.empty()) return otherwise;
  std::uint16_t port = 0;
  const auto [end, code] = std::from_chars(text.data() + 1, text.data() + text.size(), port);
  if (text[0] != ':' || code != std::errc() || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

std::optional<RedisEndpoint> parse_endpoint(std::string_view text, std::uint16_t otherwise) {
  const bool bracketed = !text.empty() && text[0] == '[';
  const std::size_t end = bracketed ? text.find(']') : std::min(text.find(':'), text.size());
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view host = text.substr(bracketed, end - bracketed);
  if (bracketed ? !is_address6(host) : !is_name(host, kMaxHost)) return std::nullopt;
  const auto port = parse_port(text.substr(end + bracketed), otherwise);
  if (!port) return std::nullopt;
  RedisEndpoint endpoint{std::string(host), *port, {}};
  for (char& c : endpoint.host)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return endpoint;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text.substr(0, 200)) out += c >= ' ' && c != '\x7f' && c != '"' ? c : '?';
  return out + (text.size() > 200 ? "...\"" : "\"");
}

// Host list and, of sentinels, the master's name.
std::optional<StoreUrl> parse_rest(const Scheme& scheme, std::string_view rest, std::string& error) {
  StoreUrl url;
  url.topology = scheme.topology;
  url.tls = scheme.tls;
  if (scheme.topology == RedisTopology::kSentinel) {
    const std::size_t slash = std::min(rest.find('/'), rest.size());
    url.master = rest.substr(std::min(slash + 1, rest.size()));
    rest = rest.substr(0, slash);
    if (!is_name(url.master, kMaxMaster))
      error =
          "the name of the master " + quoted(url.master) + " is not 1 to 100 letters, digits, \"_\", \"-\" and \".\"";
  }
  const std::uint16_t otherwise = scheme.topology == RedisTopology::kSentinel ? kSentinelPort : kServerPort;
  for (bool more = true; more && error.empty();) {
    const std::size_t comma =
        scheme.topology == RedisTopology::kSingle ? rest.size() : std::min(rest.find(','), rest.size());
    const std::string_view one = rest.substr(0, comma);
    const auto endpoint = parse_endpoint(one, otherwise);
    if (!endpoint)
      error = quoted(one) + " is not a host, host:port or [IPv6 address]:port";
    else if (std::find(url.endpoints.begin(), url.endpoints.end(), *endpoint) != url.endpoints.end())
      error = quoted(one) + " is named twice";  // it would count as two sentinels that agree
    else if (url.endpoints.size() == kMaxEndpoints)
      error = "more than 64 hosts are named";
    else
      url.endpoints.push_back(*endpoint);
    more = comma < rest.size();
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  if (!error.empty()) return std::nullopt;
  return url;
}

std::optional<StoreUrl> parse_socket(std::string_view text, std::string& error) {
  const std::string_view path = text.substr(kUnix.size());
  const bool plain = std::none_of(path.begin(), path.end(), [](char c) { return (c >= 0 && c < ' ') || c == '\x7f'; });
  if (path.size() < 2 || path[0] != '/' || path.size() > kMaxSocket || !plain) {
    error = quoted(text) + ": expected unix:/path/to/socket, a path of at most 107 bytes";
    return std::nullopt;
  }
  StoreUrl url;
  url.endpoints.push_back({{}, 0, std::string(path)});
  return url;
}

}  // namespace

std::string describe(const RedisEndpoint& endpoint) {
  if (!endpoint.socket.empty()) return std::string(kUnix) + endpoint.socket;
  const bool address6 = endpoint.host.find(':') != std::string::npos;
  return (address6 ? "[" + endpoint.host + "]" : endpoint.host) + ":" + std::to_string(endpoint.port);
}

bool is_redis_host(std::string_view text) {
  return is_name(text, kMaxHost) || is_address6(text);
}

std::optional<StoreUrl> parse_store_url(std::string_view text, std::string& error) {
  error.clear();
  if (text.substr(0, kUnix.size()) == kUnix) return parse_socket(text, error);
  const auto* scheme = std::find_if(kSchemes.begin(), kSchemes.end(), [text](const Scheme& known) {
    return text.substr(0, known.prefix.size()) == known.prefix;
  });
  if (scheme == kSchemes.end()) {
    // What came before "://" alone: what follows may hold a password.
    error = quoted(text.substr(0, text.find(':'))) +
            ": expected redis:, rediss:, unix:, redis+sentinel:, rediss+sentinel:, redis+cluster: or rediss+cluster:";
    return std::nullopt;
  }
  if (text.find('@') != std::string_view::npos) {
    error = "a URL that begins with \"" + std::string(scheme->prefix) +
            "\" holds a user or a password: expected none, they are given by user= and password_file=";
    return std::nullopt;
  }
  auto url = parse_rest(*scheme, text.substr(scheme->prefix.size()), error);
  if (!url) error = quoted(text) + ": " + error + ", expected " + std::string(scheme->form);
  return url;
}

std::string describe(const StoreUrl& url) {
  if (!url.endpoints.empty() && !url.endpoints[0].socket.empty()) return describe(url.endpoints[0]);
  const auto* scheme = std::find_if(kSchemes.begin(), kSchemes.end(), [&url](const Scheme& known) {
    return known.topology == url.topology && known.tls == url.tls;
  });
  std::string text(scheme->prefix);
  for (const RedisEndpoint& endpoint : url.endpoints)
    text += (&endpoint == url.endpoints.data() ? "" : ",") + describe(endpoint);
  return url.master.empty() ? text : text + "/" + url.master;
}

bool is_namespace(std::string_view text) {
  return is_name(text, kMaxNamespace);
}

}  // namespace experiment::shared
