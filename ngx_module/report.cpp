#include "ngx_module/report.h"

#include <nlohmann/json.hpp>

#include "ngx_module/worker.h"
#include "shared/redis_library.h"

namespace experiment::ngx {

std::string edge_report(const MainConf& conf, const shared::Conductor& mind, std::int64_t now_s) {
  using nlohmann::json;
  json units = json::array(), placements = json::array();
  for (const auto& unit : conf.units) units.push_back(unit->name);
  for (const auto& placement : conf.placements) {
    if (placement->patterns.empty()) continue;
    placements.push_back({{"patterns", placement->patterns}, {"place", placement->place}});
  }
  const json report{{"host", std::string(view(conf.cycle->hostname))},
                    {"nginx", NGINX_VERSION},
                    {"units", std::move(units)},
                    {"placements", std::move(placements)},
                    {"keys", worker_keys_fingerprint()},
                    {"ring", worker_key_fingerprints()},
                    {"library", shared::kLibraryVersion},
                    {"document", mind.document_version()},
                    {"runtime", mind.runtime().version},
                    {"at_s", now_s}};
  return report.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace experiment::ngx
