// The servers of a store as one: each call goes to the server that holds its key.
//
// Finds masters (sentinels, slot map), follows MOVED and ASK, asks again after READONLY, loads the library of functions
// where it is missing and may be loaded (not again for a minute where that was refused), and falls back to EVALSHA on
// servers without functions. Never sleeps: what cannot be answered now is an error reply, and the caller comes again.
// Synchronous; one thread at a time; used by the leader's step and by tools.
#pragma once

#include <bitset>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "shared/redis_link.h"
#include "shared/redis_reply.h"
#include "shared/redis_url.h"
#include "shared/store_health.h"

namespace experiment::shared {

using SteadyClock = std::function<std::chrono::steady_clock::time_point()>;

struct RedisCall {
  std::string key;                 // decides the server; the first key of a function
  std::string function;            // of the library; empty: a plain command
  std::vector<std::string> words;  // arguments of the function; or the whole command, its name first
  bool read_only = false;          // functions that write nothing
};

struct RedisAnswers {
  std::vector<RedisReply> replies;  // one per call; where none could be had an error reply that begins with "LINK "
  std::vector<std::uint64_t> connections;  // that brought them (RedisRoundTrip::connection), one per call; 0: none
  std::vector<std::string> faults;         // one line each, for the log: "HOST:PORT: what happened"
  bool away = false;                       // at least one call reached no server: nothing was sent for it
  std::bitset<kStoreFaults> met;           // what went wrong, by cause
};

class RedisServers {
 public:
  // `link` outlives this object. `may_load`: whether a missing library is loaded (refused by the server's ACL as a
  // rule). `now`: the time between looks for masters.
  RedisServers(StoreUrl url, RedisLink& link, bool may_load, SteadyClock now = std::chrono::steady_clock::now);
  ~RedisServers();

  // Where what call() meets is counted; it outlives this object.
  void count_in(StoreHealth* health);
  // Calls may be done in any order. What may be repeated is: FCALL after a library was loaded, any call after a
  // redirect or READONLY; never one whose reply did not come.
  RedisAnswers call(const std::vector<RedisCall>& calls);
  // Tells the link where pushes on `channel` come from: the master that holds `key`. Called again whenever that moved.
  void listen(const std::string& channel, const std::string& key);
  // Loads the library on every master, replacing another version. Returns one line per server that refused.
  std::vector<std::string> load_library();
  // Every master that is known now, for tools that look at each.
  std::vector<RedisEndpoint> masters();
  RedisRoundTrip ask(const RedisEndpoint& server, const std::vector<std::vector<std::string>>& commands);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace experiment::shared
