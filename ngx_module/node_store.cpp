#include "ngx_module/node_store.h"

#include <string>

#include "shared/file_store.h"

namespace experiment::ngx {

std::unique_ptr<shared::Store> make_store(const MainConf& conf, const shared::Zone& zone, shared::RedisLink*) {
  return std::make_unique<shared::FileStore>(conf.state_directory, std::string(zone.header().instance.data()));
}

}  // namespace experiment::ngx
