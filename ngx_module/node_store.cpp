#include "ngx_module/node_store.h"

#include <chrono>
#include <string>
#include <utility>

#include "ngx_module/worker.h"
#include "shared/file_store.h"
#include "shared/fleet_store.h"

namespace experiment::ngx {
namespace {

// A little less than a second, which the leader's ticks make of it.
constexpr std::chrono::milliseconds kPoll(900);

// Of a worker that does not lead: what it has to say at its end goes to the disk, and from there to the fleet.
class NoLink : public shared::RedisLink {
 public:
  shared::RedisRoundTrip round_trip(const shared::RedisEndpoint&, const std::vector<std::string>&) override {
    shared::RedisRoundTrip trip;
    trip.away = true;
    return trip;
  }
  void keep_only(const std::vector<shared::RedisEndpoint>&) override {}
  void listen(const shared::RedisEndpoint&, const std::string&) override {}
};

}  // namespace

std::unique_ptr<shared::Store> make_store(const MainConf& conf, const shared::Zone& zone, shared::RedisLink* link) {
  static NoLink none;
  const std::string instance(zone.header().instance.data());
  if (!conf.store) return std::make_unique<shared::FileStore>(conf.state_directory, instance);
  const StoreConf& store = *conf.store;
  auto servers = std::make_unique<shared::RedisServers>(store.url, link != nullptr ? *link : none, true);
  servers->listen(store.name_space + ":push", store.name_space + ":ctl");
  // A worker at its end asks nothing, and has nothing to say of the store.
  shared::StoreHealth* health = link != nullptr ? &zone.header().store : nullptr;
  auto redis = std::make_unique<shared::RedisStore>(
      std::move(servers), shared::RedisStoreOptions{store.name_space, instance, kPoll, health}, random_bits);
  return std::make_unique<shared::FleetStore>(std::move(redis), describe(store.url) + " " + store.name_space,
                                              conf.state_directory, instance);
}

}  // namespace experiment::ngx
