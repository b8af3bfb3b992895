// Which server is the master of a key: the one that is named, the one that sentinels agree on, or the one of its slot.
//
// Part of RedisServers, in its thread. Asks through the link, and only when there is a reason: nothing is known yet, a
// master was lost or says that it is none, or some seconds have passed. Never more than once a second but for a master
// that answered since and was lost.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "shared/redis_link.h"
#include "shared/redis_servers.h"
#include "shared/redis_topology.h"
#include "shared/redis_url.h"

namespace experiment::shared {

class RedisMasters {
 public:
  // `link` outlives this object.
  RedisMasters(StoreUrl url, RedisLink& link, SteadyClock now);

  // Asks if there is a reason and it may. Adds one line to `faults` for each thing that went wrong. Returns: whether it
  // asked.
  bool look(std::vector<std::string>& faults);

  // nullptr: nobody knows.
  const RedisEndpoint* find(std::string_view key) const;
  std::vector<RedisEndpoint> all() const;
  // Servers that connections are kept to: masters, and whom to ask about them.
  std::vector<RedisEndpoint> in_use() const;

  // What came of talking to servers.
  void answered(const RedisEndpoint& server);
  void lost(const RedisEndpoint& server);     // it did not answer, or says that it is no master
  void moved(const RedisRedirect& redirect);  // it says who is
  void doubt() noexcept { wanted_ = true; }   // the cluster says that it is not whole
  bool is_cluster() const noexcept { return url_.topology == RedisTopology::kCluster; }
  bool can_change() const noexcept { return url_.topology != RedisTopology::kSingle; }

 private:
  using Time = std::chrono::steady_clock::time_point;

  void look_at_sentinels(std::vector<std::string>& faults);
  // Returns: the address that most sentinels name; nullopt if none, or too few.
  std::optional<RedisEndpoint> agreed(std::vector<std::string>& faults);
  // nullopt: it did not answer.
  std::optional<bool> is_master(const RedisEndpoint& server, std::vector<std::string>& faults);

  void look_at_cluster(std::vector<std::string>& faults);
  bool take_map_of(const RedisEndpoint& node, std::vector<std::string>& faults);

  // One command to one server. Returns: its reply; nullopt, with a fault, if there is none, of ask() also if it is an
  // error.
  std::optional<RedisReply> reply_of(const RedisEndpoint& server, const std::vector<std::string_view>& words,
                                     std::vector<std::string>& faults);
  std::optional<RedisReply> ask(const RedisEndpoint& server, const std::vector<std::string_view>& words,
                                std::vector<std::string>& faults);
  // Those that did not answer a short while ago come last.
  void put_silent_last(std::vector<RedisEndpoint>& servers) const;

  StoreUrl url_;
  RedisLink& link_;
  SteadyClock now_;
  bool wanted_ = true;                    // there is a reason to ask
  bool coming_ = false;                   // a server was not asked, for it is being connected to
  bool worked_ = false;                   // a master answered since we last asked
  Time allowed_, routine_;                // when we may ask again, and when we do without a reason
  std::map<RedisEndpoint, Time> silent_;  // when they did not answer
  std::optional<RedisEndpoint> master_;   // of sentinels
  std::optional<SlotMap> map_;
  std::optional<RedisEndpoint> named_;  // by MOVED since the last look: it knows more than others
  std::size_t turn_ = 0;                // of masters to be asked: one may know nothing of the others any more
};

}  // namespace experiment::shared
