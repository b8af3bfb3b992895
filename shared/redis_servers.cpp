#include "shared/redis_servers.h"

#include <map>
#include <optional>
#include <set>
#include <utility>

#include "shared/redis_calls.h"
#include "shared/redis_masters.h"
#include "shared/redis_topology.h"

namespace experiment::shared {

struct RedisServers::State {
  State(StoreUrl url, RedisLink& given, bool load, SteadyClock now)
      : link(given), may_load(load), now(now), masters(std::move(url), given, now) {}

  // Looks for masters, if it is time, and tells the link what follows. What goes wrong is told by the next call().
  void look() {
    if (masters.look(untold)) link.keep_only(masters.in_use());
    const RedisEndpoint* at = channel.empty() ? nullptr : masters.find(channel_key);
    if (at == nullptr || (listening && *listening == *at)) return;
    listening = *at;
    link.listen(*at, channel);
  }

  RedisLink& link;
  const bool may_load;
  const SteadyClock now;
  RedisMasters masters;
  std::set<RedisEndpoint> scripted;  // servers without functions
  std::map<RedisEndpoint, RefusedLibrary> unloadable;
  std::vector<std::string> untold;
  std::string channel, channel_key;
  std::optional<RedisEndpoint> listening;
  StoreHealth* health = nullptr;
};

RedisServers::RedisServers(StoreUrl url, RedisLink& link, bool may_load, SteadyClock now)
    : state_(std::make_unique<State>(std::move(url), link, may_load, std::move(now))) {}
RedisServers::~RedisServers() = default;

RedisAnswers RedisServers::call(const std::vector<RedisCall>& calls) {
  State& state = *state_;
  RedisCalls round({state.link, state.masters, state.scripted, state.unloadable, state.may_load, state.now()},
                   [&state] {
                     state.look();
                     return std::exchange(state.untold, {});
                   });
  RedisAnswers answers = round.run(calls);
  for (std::size_t i = 0; state.health != nullptr && i < kStoreFaults; ++i) {
    if (answers.met[i]) state.health->faults[i].fetch_add(1, std::memory_order_relaxed);
  }
  return answers;
}

void RedisServers::count_in(StoreHealth* health) {
  state_->health = health;
}

void RedisServers::listen(const std::string& channel, const std::string& key) {
  state_->channel = channel;
  state_->channel_key = key;
  state_->listening.reset();
  state_->look();
}

std::vector<std::string> RedisServers::load_library() {
  const std::vector<RedisEndpoint> servers = masters();
  std::vector<std::string> refusals;
  for (const RedisEndpoint& server : servers) {
    RedisRoundTrip trip = state_->link.round_trip(server, {load_command(false)});
    if (!trip.replies.empty() && fault_of(trip.replies[0]) == RedisFault::kUnknownCommand) {
      state_->scripted.insert(server);
      trip = state_->link.round_trip(server, {load_command(true)});
    }
    if (trip.replies.empty())
      refusals.push_back(trip.error.empty() ? describe(server) + ": is being connected to" : trip.error);
    else if (trip.replies[0].is_error())
      refusals.push_back(describe(server) + ": " + printable(trip.replies[0].text));
  }
  if (servers.empty()) refusals = std::exchange(state_->untold, {});
  if (servers.empty() && refusals.empty()) refusals.emplace_back("no master is known");
  return refusals;
}

std::vector<RedisEndpoint> RedisServers::masters() {
  state_->look();
  return state_->masters.all();
}

RedisRoundTrip RedisServers::ask(const RedisEndpoint& server, const std::vector<std::vector<std::string>>& commands) {
  std::vector<std::string> formatted;
  for (const std::vector<std::string>& words : commands)
    formatted.push_back(format_command({words.begin(), words.end()}));
  return state_->link.round_trip(server, formatted);
}

}  // namespace experiment::shared
