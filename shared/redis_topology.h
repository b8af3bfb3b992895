// What servers say about each other and about a command they refuse: key slots, CLUSTER SLOTS, sentinels, error lines.
//
// Pure: replies in, values out. Used by RedisServers, by both forms of RedisLink, and by whoever tells faults apart.
// Servers' texts are not trusted: hosts, ports and slots are checked before they are used.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "shared/redis_reply.h"
#include "shared/redis_url.h"

namespace experiment::shared {

constexpr std::uint16_t kRedisSlots = 16384;

// The slot of a key in a cluster: CRC16 (XMODEM) of it, or of what stands in its first {braces} unless that is empty.
std::uint16_t key_slot(std::string_view key) noexcept;

// Which master serves which slot.
class SlotMap {
 public:
  // Of a reply to CLUSTER SLOTS. `asked`: the server that gave it; a node without a host is that host. Returns: nullopt
  // and a reason when the reply cannot be one, or names no node for any slot.
  static std::optional<SlotMap> parse(const RedisReply& reply, const RedisEndpoint& asked, std::string& error);

  // nullptr: nobody serves it, as far as is known.
  const RedisEndpoint* find(std::uint16_t slot) const noexcept;
  // What MOVED says.
  void assign(std::uint16_t slot, const RedisEndpoint& master);
  // Masters that serve a slot, in order.
  std::vector<RedisEndpoint> masters() const;
  // Masters and replicas, which can tell the map when masters are gone.
  const std::vector<RedisEndpoint>& nodes() const noexcept { return nodes_; }

 private:
  static constexpr std::uint16_t kNobody = 0xffff;
  SlotMap() { owner_.fill(kNobody); }
  // Returns: its place in nodes_, kNobody if there is no room.
  std::uint16_t place_of(const RedisEndpoint& node);
  // One element of the reply. Returns: why it cannot be one, empty if it can.
  std::string add_range(const RedisReply& range, const RedisEndpoint& asked);

  std::vector<RedisEndpoint> nodes_;
  std::array<std::uint16_t, kRedisSlots> owner_;  // place in nodes_
};

// Of a reply to SENTINEL GET-MASTER-ADDR-BY-NAME. Returns: nullopt if the sentinel does not know the master, or says
// what is no address.
std::optional<RedisEndpoint> parse_sentinel_master(const RedisReply& reply);
// Whether a reply to ROLE is a master's.
bool is_master_role(const RedisReply& reply);

// Why a server refused. What to do about each is the caller's; the names are those of Redis.
enum class RedisFault : std::uint8_t {
  kNone,  // not an error reply
  kMoved,
  kAsk,
  kTryAgain,
  kClusterDown,
  kReadOnly,
  kLoading,
  kMasterDown,
  kBusy,
  kNoReplicas,
  kNoAuth,
  kWrongPass,
  kNoPasswordSet,  // AUTH where no password is set: whoever connects is in already
  kNoPerm,
  kOutOfMemory,
  kMisconf,
  kNoScript,
  kNoFunction,
  kNoLibrary,
  kUnknownCommand,
  kWrongType,
  kNotACluster,
  kExperiment,  // our own library's
  kLink,        // RedisServers': no server answered
  kOther,
};
RedisFault fault_of(const RedisReply& reply);
// An error line without the place in a script that servers add: before 7.0 in front of it, once or twice ("ERR Error
// running script (call to f_...): @user_script:1: @user_script: 1: -OOM ..."), since then behind it ("... script: f, on
// @user_function:3."). Whole where it names no known fault: then the place says which line of the script is wrong.
std::string_view without_place(std::string_view line) noexcept;
// Faults that may pass: the same call may succeed later. The others need another call or an operator.
bool is_passing(RedisFault fault) noexcept;

// A server's line as it may stand in logs and on terminals: at most 200 bytes, "?" for what is no printable ASCII.
std::string printable(std::string_view line);

// Of "MOVED <slot> <host>:<port>" and "ASK <slot> <host>:<port>".
struct RedisRedirect {
  bool ask = false;
  std::uint16_t slot = 0;
  RedisEndpoint to;
};
// `asked`: the server that said it; an empty host is its own. Returns: nullopt if the line is no redirect that can be
// followed.
std::optional<RedisRedirect> parse_redirect(std::string_view line, const RedisEndpoint& asked);

}  // namespace experiment::shared
