#include "shared/redis_topology.h"

#include <algorithm>
#include <charconv>

namespace experiment::shared {
namespace {

constexpr std::size_t kMaxNodes = 2000;  // a cluster is said to end at about a thousand masters

constexpr std::array<std::uint16_t, 256> make_crc16() {
  std::array<std::uint16_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte << 8;
    for (int bit = 0; bit < 8; ++bit) crc = (crc << 1) ^ ((crc & 0x8000) != 0 ? 0x1021 : 0);
    table[byte] = static_cast<std::uint16_t>(crc);
  }
  return table;
}
constexpr std::array<std::uint16_t, 256> kCrc16 = make_crc16();

template <typename Integer>
std::optional<Integer> parse_number(std::string_view text, Integer most) {
  Integer value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || code != std::errc() || end != text.data() + text.size() || value > most) return std::nullopt;
  return value;
}
std::optional<std::uint16_t> parse_port(std::string_view text) {
  const auto port = parse_number<std::uint16_t>(text, 0xffff);
  return port == std::uint16_t{0} ? std::nullopt : port;
}

// An empty host: the server that was asked. Returns: nullopt if this is no address.
std::optional<RedisEndpoint> endpoint_of(std::string_view host, std::int64_t port, const RedisEndpoint& asked) {
  if (port < 1 || port > 0xffff) return std::nullopt;
  if (host.empty()) host = asked.host;
  if (!is_redis_host(host)) return std::nullopt;  // also "?": the cluster knows no name to give
  return RedisEndpoint{std::string(host), static_cast<std::uint16_t>(port), {}};
}

std::optional<RedisEndpoint> node_of(const RedisReply& node, const RedisEndpoint& asked) {
  if (!node.is_array() || node.items.size() < 2 || !node.items[1].is_integer()) return std::nullopt;
  const RedisReply& host = node.items[0];
  if (!host.is_text() && !host.is_nil()) return std::nullopt;
  return endpoint_of(host.text, node.items[1].integer, asked);
}

struct KnownFault {
  std::string_view begin;
  RedisFault fault;
};
// Whole first words.
constexpr std::array<KnownFault, 19> kWords = {{
    {"MOVED", RedisFault::kMoved},
    {"ASK", RedisFault::kAsk},
    {"TRYAGAIN", RedisFault::kTryAgain},
    {"CLUSTERDOWN", RedisFault::kClusterDown},
    {"READONLY", RedisFault::kReadOnly},
    {"LOADING", RedisFault::kLoading},
    {"MASTERDOWN", RedisFault::kMasterDown},
    {"BUSY", RedisFault::kBusy},
    {"NOREPLICAS", RedisFault::kNoReplicas},
    {"NOAUTH", RedisFault::kNoAuth},
    {"WRONGPASS", RedisFault::kWrongPass},
    {"NOPERM", RedisFault::kNoPerm},
    {"DENIED", RedisFault::kNoPerm},
    {"OOM", RedisFault::kOutOfMemory},
    {"MISCONF", RedisFault::kMisconf},
    {"NOSCRIPT", RedisFault::kNoScript},
    {"WRONGTYPE", RedisFault::kWrongType},
    {"EXPERIMENT", RedisFault::kExperiment},
    {"LINK", RedisFault::kLink},
}};
// Beginnings of lines whose first word says nothing.
constexpr std::array<KnownFault, 7> kLines = {{
    {"ERR Function not found", RedisFault::kNoFunction},
    {"ERR Library not found", RedisFault::kNoLibrary},
    {"ERR unknown command", RedisFault::kUnknownCommand},
    {"ERR This instance has cluster support disabled", RedisFault::kNotACluster},
    {"ERR AUTH <password> called without any password", RedisFault::kNoPasswordSet},
    {"ERR Client sent AUTH, but no password is set", RedisFault::kNoPasswordSet},  // before 6.0
    {"ERR invalid password", RedisFault::kWrongPass},                              // before 6.0
}};

bool begins(std::string_view text, std::string_view with) noexcept {
  return text.substr(0, with.size()) == with;
}

RedisFault fault_of_line(std::string_view line) noexcept {
  const std::string_view word = line.substr(0, line.find(' '));
  for (const KnownFault& known : kWords)
    if (word == known.begin) return known.fault;
  for (const KnownFault& known : kLines)
    if (begins(line, known.begin)) return known.fault;
  return RedisFault::kOther;
}

}  // namespace

std::uint16_t key_slot(std::string_view key) noexcept {
  const std::size_t open = key.find('{');
  const std::size_t close = open == std::string_view::npos ? open : key.find('}', open + 1);
  if (close != std::string_view::npos && close > open + 1) key = key.substr(open + 1, close - open - 1);
  std::uint16_t crc = 0;
  for (const char c : key)
    crc = static_cast<std::uint16_t>((crc << 8) ^ kCrc16[((crc >> 8) ^ static_cast<std::uint8_t>(c)) & 0xff]);
  return crc % kRedisSlots;
}

std::optional<SlotMap> SlotMap::parse(const RedisReply& reply, const RedisEndpoint& asked, std::string& error) {
  SlotMap map;
  error = reply.is_array() ? "" : "not an array";
  for (const RedisReply& range : reply.items) {
    if (error.empty()) error = map.add_range(range, asked);
  }
  if (error.empty() && map.masters().empty()) error = "no node serves any slot";
  if (error.empty()) return map;
  error = "CLUSTER SLOTS: " + error;
  return std::nullopt;
}

std::string SlotMap::add_range(const RedisReply& range, const RedisEndpoint& asked) {
  if (!range.is_array() || range.items.size() < 3) return "a range without slots and nodes";
  const RedisReply &first = range.items[0], &last = range.items[1];
  if (!first.is_integer() || !last.is_integer() || first.integer < 0 || last.integer >= kRedisSlots ||
      first.integer > last.integer)
    return "a range that is not within 0 to 16383";
  for (std::size_t i = 2; i < range.items.size(); ++i) {
    const auto node = node_of(range.items[i], asked);
    if (!node && !range.items[i].is_array()) return "a node that is not an array";
    if (!node) continue;  // it has no address that anybody else could use
    const std::uint16_t place = place_of(*node);
    if (i == 2) std::fill(owner_.begin() + first.integer, owner_.begin() + last.integer + 1, place);
  }
  return {};
}

std::uint16_t SlotMap::place_of(const RedisEndpoint& node) {
  const auto found = std::find(nodes_.begin(), nodes_.end(), node);
  if (found != nodes_.end()) return static_cast<std::uint16_t>(found - nodes_.begin());
  if (nodes_.size() >= kMaxNodes) return kNobody;
  nodes_.push_back(node);
  return static_cast<std::uint16_t>(nodes_.size() - 1);
}

const RedisEndpoint* SlotMap::find(std::uint16_t slot) const noexcept {
  const std::uint16_t place = slot < kRedisSlots ? owner_[slot] : kNobody;
  return place == kNobody ? nullptr : &nodes_[place];
}

void SlotMap::assign(std::uint16_t slot, const RedisEndpoint& master) {
  if (slot < kRedisSlots) owner_[slot] = place_of(master);
}

std::vector<RedisEndpoint> SlotMap::masters() const {
  std::vector<bool> serves(nodes_.size());
  for (const std::uint16_t place : owner_)
    if (place != kNobody) serves[place] = true;
  std::vector<RedisEndpoint> masters;
  for (std::size_t i = 0; i < nodes_.size(); ++i)
    if (serves[i]) masters.push_back(nodes_[i]);
  return masters;
}

std::optional<RedisEndpoint> parse_sentinel_master(const RedisReply& reply) {
  if (!reply.is_array() || reply.items.size() != 2 || !reply.items[0].is_text() || !reply.items[1].is_text())
    return std::nullopt;
  const auto port = parse_port(reply.items[1].text);
  if (!port || !is_redis_host(reply.items[0].text)) return std::nullopt;
  return RedisEndpoint{reply.items[0].text, *port, {}};
}

bool is_master_role(const RedisReply& reply) {
  return reply.is_array() && !reply.items.empty() && reply.items[0].is_text() && reply.items[0].text == "master";
}

std::string_view without_place(std::string_view line) noexcept {
  constexpr std::string_view kScript = "@user_script:";
  std::string_view said = line;
  if (begins(line, "ERR Error running script") || begins(line, kScript)) {
    const std::size_t script = said.rfind(kScript);
    const std::size_t inner = script == std::string_view::npos ? script : said.find(": ", script + kScript.size());
    if (inner == std::string_view::npos) return line;
    said.remove_prefix(inner + 2);
    if (begins(said, "-")) said.remove_prefix(1);
  }
  const std::size_t behind = said.rfind(" script: ");
  if (behind != std::string_view::npos && said.find(", on @user_", behind) != std::string_view::npos)
    said = said.substr(0, behind);
  said = said.substr(0, said.find_last_not_of(' ') + 1);
  return fault_of_line(said) == RedisFault::kOther ? line : said;
}

RedisFault fault_of(const RedisReply& reply) {
  return reply.is_error() ? fault_of_line(without_place(reply.text)) : RedisFault::kNone;
}

bool is_passing(RedisFault fault) noexcept {
  switch (fault) {
    case RedisFault::kTryAgain:
    case RedisFault::kClusterDown:
    case RedisFault::kReadOnly:
    case RedisFault::kLoading:
    case RedisFault::kMasterDown:
    case RedisFault::kBusy:
    case RedisFault::kNoReplicas:
    case RedisFault::kOutOfMemory:
    case RedisFault::kMisconf:
    case RedisFault::kMoved:
    case RedisFault::kAsk:
    case RedisFault::kLink:
      return true;
    default:
      return false;
  }
}

std::string printable(std::string_view line) {
  std::string text(line.substr(0, 200));
  for (char& c : text)
    if (c < ' ' || c > '~') c = '?';
  return text;
}

std::optional<RedisRedirect> parse_redirect(std::string_view line, const RedisEndpoint& asked) {
  RedisRedirect redirect;
  redirect.ask = begins(line, "ASK ");
  if (!redirect.ask && !begins(line, "MOVED ")) return std::nullopt;
  line.remove_prefix(line.find(' ') + 1);
  const std::size_t space = line.find(' ');
  const std::size_t colon = line.rfind(':');  // an IPv6 address has colons, and no brackets
  if (space == std::string_view::npos || colon == std::string_view::npos || colon <= space) return std::nullopt;
  const auto slot = parse_number<std::uint16_t>(line.substr(0, space), kRedisSlots - 1);
  const auto port = parse_port(line.substr(colon + 1));
  if (!slot || !port) return std::nullopt;
  const auto to = endpoint_of(line.substr(space + 1, colon - space - 1), *port, asked);
  if (!to) return std::nullopt;
  redirect.slot = *slot;
  redirect.to = *to;
  return redirect;
}

}  // namespace experiment::shared
