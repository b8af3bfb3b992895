// The Store of this node: the state directory, or the fleet's Redis with the state directory behind it.
#pragma once

#include <memory>

#include "ngx_module/conf.h"
#include "shared/redis_link.h"
#include "shared/store.h"
#include "shared/zone.h"

namespace experiment::ngx {

// Called by the leader, and by each worker at its end. `link`: with experiment_store, of the leader, which it outlives;
// nullptr: Redis cannot be asked.
std::unique_ptr<shared::Store> make_store(const MainConf& conf, const shared::Zone& zone, shared::RedisLink* link);

}  // namespace experiment::ngx
