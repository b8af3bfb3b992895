// The servers of a store together with the link to them, for tools.
#pragma once

#include <memory>
#include <utility>

#include "ctl/redis_socket.h"
#include "shared/redis_servers.h"

namespace experiment::ctl {

class LinkedServers {
 public:
  LinkedServers(const shared::StoreUrl& url, const shared::RedisAccess& access)
      : link_(access), servers_(std::make_unique<shared::RedisServers>(url, link_, true)) {}
  shared::RedisServers& servers() { return *servers_; }

 private:
  RedisSocket link_;
  std::unique_ptr<shared::RedisServers> servers_;
};

}  // namespace experiment::ctl
