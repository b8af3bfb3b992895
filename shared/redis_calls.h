// One RedisServers::call() on its way: rounds of one pipelined trip per server, until each call has its reply.
//
// Part of RedisServers, in its thread; made for one call() and gone with it. Follows redirects, loads what is missing
// once per server, and changes to the script where there are no functions. Nothing is sent again whose fate is not
// known.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "shared/redis_masters.h"
#include "shared/redis_servers.h"

namespace experiment::shared {

// FCALL or FCALL_RO, or EVALSHA of the library's script; a plain command as it is.
std::string command_of(const RedisCall& call, bool by_script);
// FUNCTION LOAD REPLACE of the library, or SCRIPT LOAD of its script.
std::string load_command(bool by_script);

struct RefusedLibrary {
  std::string why;
  std::chrono::steady_clock::time_point until;  // then it is tried again: the library has 24 kB
};

class RedisCalls {
 public:
  struct Servers {
    RedisLink& link;
    RedisMasters& masters;
    std::set<RedisEndpoint>& scripted;                    // those without functions
    std::map<RedisEndpoint, RefusedLibrary>& unloadable;  // those that refused to load the library
    bool may_load;
    std::chrono::steady_clock::time_point now;
  };
  // `look`: looks for masters, if it is time. Returns: what went wrong.
  RedisCalls(const Servers& servers, std::function<std::vector<std::string>()> look)
      : servers_(servers), look_(std::move(look)) {}

  RedisAnswers run(const std::vector<RedisCall>& calls);

 private:
  struct Item {
    const RedisCall* call;
    RedisReply* reply;
    std::uint64_t* connection;  // that brought it
    int redirects = 0;
    bool asking = false;              // the server was named by ASK, and is to be told so
    bool by_script = false;           // as it was sent last
    bool elsewhere = false;           // a server said READONLY, and another was looked for
    std::optional<RedisEndpoint> to;  // other than the master of its key
  };
  struct Silence {
    std::string error;
    bool away = false;
  };

  std::map<RedisEndpoint, std::vector<Item*>> by_server(const std::vector<Item*>& items);
  void send(const RedisEndpoint& server, const std::vector<Item*>& items);
  void not_answered(const RedisEndpoint& server, const RedisRoundTrip& trip);
  // Returns: whether the item goes on instead of ending with the reply that it got.
  bool goes_on(const RedisEndpoint& server, Item& item, RedisFault fault);
  bool redirect(const RedisEndpoint& server, Item& item);
  bool load_first(const RedisEndpoint& server);
  void loaded(const RedisEndpoint& server, const RedisReply& reply);
  static bool from_the_start(Item& item);
  static bool to_the_same(const RedisEndpoint& server, Item& item);
  void end(const RedisEndpoint& server, const RedisReply& reply, RedisFault fault);
  void fault(std::string line);
  void note(StoreFault fault) { answers_.met.set(static_cast<std::size_t>(fault)); }

  Servers servers_;
  std::function<std::vector<std::string>()> look_;
  RedisAnswers answers_;
  std::vector<Item*> again_;                 // of the next round
  std::map<RedisEndpoint, Silence> silent_;  // servers that did not answer in this call
  std::set<RedisEndpoint> load_, loaded_;    // where to load before the next round, and where that was done
};

}  // namespace experiment::shared
