#include "shared/redis_masters.h"

#include <algorithm>
#include <utility>

namespace experiment::shared {
namespace {

using std::chrono::seconds;

constexpr seconds kBetween{1};  // two looks, whatever the reason
// Looks without a reason. A master that was replaced while it lives is not told so for some seconds, and what it is
// told is lost; the nodes of a cluster tell each other at once.
constexpr seconds kSentinelRoutine{2}, kClusterRoutine{10};
constexpr seconds kSilent{5};           // how long a server that did not answer is asked last
constexpr std::size_t kNodesAsked = 5;  // in one look: each that is gone costs the time to connect

void add_once(std::vector<RedisEndpoint>& servers, const RedisEndpoint& server) {
  if (std::find(servers.begin(), servers.end(), server) == servers.end()) servers.push_back(server);
}

}  // namespace

RedisMasters::RedisMasters(StoreUrl url, RedisLink& link, SteadyClock now)
    : url_(std::move(url)), link_(link), now_(std::move(now)) {}

bool RedisMasters::look(std::vector<std::string>& faults) {
  if (url_.topology == RedisTopology::kSingle) return false;
  const Time now = now_();
  if (now < (wanted_ ? allowed_ : routine_)) return false;
  allowed_ = now + kBetween;
  routine_ = now + (is_cluster() ? kClusterRoutine : kSentinelRoutine);
  worked_ = false;
  for (auto it = silent_.begin(); it != silent_.end();)
    it = now - it->second > kSilent ? silent_.erase(it) : std::next(it);
  coming_ = false;
  if (is_cluster())
    look_at_cluster(faults);
  else
    look_at_sentinels(faults);
  if (coming_) allowed_ = routine_ = now;
  return true;
}

const RedisEndpoint* RedisMasters::find(std::string_view key) const {
  switch (url_.topology) {
    case RedisTopology::kSentinel:
      return master_ ? &*master_ : nullptr;
    case RedisTopology::kCluster:
      return map_ ? map_->find(key_slot(key)) : nullptr;
    default:
      return &url_.endpoints[0];
  }
}

std::vector<RedisEndpoint> RedisMasters::all() const {
  if (map_) return map_->masters();
  if (const RedisEndpoint* one = find({})) return {*one};
  return {};
}

std::vector<RedisEndpoint> RedisMasters::in_use() const {
  std::vector<RedisEndpoint> servers = all();
  if (url_.topology == RedisTopology::kSentinel)
    for (const RedisEndpoint& sentinel : url_.endpoints) add_once(servers, sentinel);
  return servers;
}

void RedisMasters::answered(const RedisEndpoint& server) {
  worked_ = true;
  silent_.erase(server);
}

void RedisMasters::lost(const RedisEndpoint& server) {
  silent_[server] = now_();
  wanted_ = true;
  if (worked_ && !is_cluster()) allowed_ = now_();
}

void RedisMasters::moved(const RedisRedirect& redirect) {
  if (map_) map_->assign(redirect.slot, redirect.to);
  named_ = redirect.to;
  wanted_ = true;
}

std::optional<RedisReply> RedisMasters::ask(const RedisEndpoint& server, const std::vector<std::string_view>& words,
                                            std::vector<std::string>& faults) {
  auto reply = reply_of(server, words, faults);
  if (!reply || !reply->is_error()) return reply;
  faults.push_back(describe(server) + ": " + std::string(words[0]) + " was answered by: " + printable(reply->text));
  return std::nullopt;
}

std::optional<RedisReply> RedisMasters::reply_of(const RedisEndpoint& server,
                                                 const std::vector<std::string_view>& words,
                                                 std::vector<std::string>& faults) {
  RedisRoundTrip trip = link_.round_trip(server, {format_command(words)});
  if (!trip.replies.empty()) {
    silent_.erase(server);
    return std::move(trip.replies[0]);
  }
  if (trip.error.empty()) {
    coming_ = true;  // the first attempt to connect is under way
    return std::nullopt;
  }
  silent_[server] = now_();
  faults.push_back(trip.error);
  return std::nullopt;
}

void RedisMasters::put_silent_last(std::vector<RedisEndpoint>& servers) const {
  std::stable_partition(servers.begin(), servers.end(),
                        [this](const RedisEndpoint& server) { return silent_.count(server) == 0; });
}

// --- sentinels
// ---------------------------------------------------------------------------------------------------------

void RedisMasters::look_at_sentinels(std::vector<std::string>& faults) {
  const auto found = agreed(faults);
  if (!found) return;  // what is known is still the best guess
  if (!wanted_ && found == master_) return;
  const auto confirmed = is_master(*found, faults);
  wanted_ = confirmed != true;
  if (confirmed == true)
    master_ = found;
  else if (confirmed || !(found == master_))  // else it may be its connection alone, as the call finds out
    master_.reset();
}

std::optional<RedisEndpoint> RedisMasters::agreed(std::vector<std::string>& faults) {
  std::vector<RedisEndpoint> sentinels = url_.endpoints;
  put_silent_last(sentinels);
  std::map<RedisEndpoint, std::size_t> votes;
  std::size_t answers = 0;
  for (const RedisEndpoint& sentinel : sentinels) {
    const auto reply = ask(sentinel, {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", url_.master}, faults);
    if (!reply) continue;
    ++answers;
    const auto master = parse_sentinel_master(*reply);
    // More than half of all, so whatever the others would say changes nothing.
    if (master && ++votes[*master] > url_.endpoints.size() / 2) return master;
    if (!master) faults.push_back(describe(sentinel) + ": knows no master by the name of \"" + url_.master + "\"");
  }
  const auto most =
      std::max_element(votes.begin(), votes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == votes.end()) return std::nullopt;
  const auto as_many =
      std::count_if(votes.begin(), votes.end(), [most](const auto& v) { return v.second == most->second; });
  if (as_many == 1 && most->second >= std::min<std::size_t>(2, answers)) return most->first;
  faults.push_back("the sentinels of \"" + url_.master + "\" do not agree on a master: " + std::to_string(answers) +
                   " answered, " + std::to_string(most->second) + " of them " + describe(most->first));
  return std::nullopt;
}

std::optional<bool> RedisMasters::is_master(const RedisEndpoint& server, std::vector<std::string>& faults) {
  const auto reply = reply_of(server, {"ROLE"}, faults);
  if (!reply) return std::nullopt;
  // Who may not ask takes the sentinels' word for it; a replica refuses to write.
  if (is_master_role(*reply) || fault_of(*reply) == RedisFault::kNoPerm) return true;
  faults.push_back(describe(server) + (reply->is_error()
                                           ? ": ROLE was answered by: " + printable(reply->text)
                                           : ": is named as the master by the sentinels, and is none yet"));
  return false;
}

// --- cluster
// -----------------------------------------------------------------------------------------------------------

void RedisMasters::look_at_cluster(std::vector<std::string>& faults) {
  std::vector<RedisEndpoint> nodes = all();
  if (!nodes.empty()) std::rotate(nodes.begin(), nodes.begin() + turn_++ % nodes.size(), nodes.end());
  if (named_) nodes.insert(nodes.begin(), *std::exchange(named_, std::nullopt));
  if (map_)
    for (const RedisEndpoint& node : map_->nodes()) add_once(nodes, node);
  for (const RedisEndpoint& node : url_.endpoints) add_once(nodes, node);
  put_silent_last(nodes);
  nodes.resize(std::min(nodes.size(), kNodesAsked));
  wanted_ =
      std::none_of(nodes.begin(), nodes.end(), [&](const RedisEndpoint& node) { return take_map_of(node, faults); });
}

bool RedisMasters::take_map_of(const RedisEndpoint& node, std::vector<std::string>& faults) {
  const auto reply = ask(node, {"CLUSTER", "SLOTS"}, faults);
  if (!reply) return false;
  std::string error;
  auto map = SlotMap::parse(*reply, node, error);
  if (!map) {
    faults.push_back(describe(node) + ": " + error);
    return false;
  }
  map_ = std::move(map);
  return true;
}

}  // namespace experiment::shared
