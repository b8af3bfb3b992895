// What an edge tells the store of itself, for those who publish, watch and repair: what its configuration offers, and
// what it has applied.
#pragma once

#include <cstdint>
#include <string>

#include "ngx_module/conf.h"
#include "shared/conductor.h"

namespace experiment::ngx {

// A JSON object: host, version of nginx, units, placements (patterns and place), fingerprints of the key ring and of
// its keys, version of the library that it calls in Redis, versions of the document and the runtime state in use, unix
// time. Called by the leader between two steps.
std::string edge_report(const MainConf& conf, const shared::Conductor& mind, std::int64_t now_s);

}  // namespace experiment::ngx
