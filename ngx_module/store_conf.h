// What experiment_store says: where the fleet's Redis is, who we are to it, and how we make sure of it.
//
// Made in the configuration pool as a part of MainConf; read by the leader's link, never written after the
// configuration was read.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ngx_module/ngx.h"
#include "shared/redis_link.h"
#include "shared/redis_url.h"

namespace experiment::ngx {

// Where a socket connects to.
struct SocketAddress {
  ngx_sockaddr_t at;
  socklen_t length = 0;
  std::string name;  // for messages
};

struct StoreConf {
  shared::StoreUrl url;
  std::string name_space = "experiment";
  shared::RedisAccess access;
  // What logs in with the password that the master read: workers may not be able to.
  std::string login;
  ngx_ssl_t* tls = nullptr;            // nullptr: none
  ngx_resolver_t* resolver = nullptr;  // nullptr: names are resolved when the configuration is read
  std::map<shared::RedisEndpoint, std::vector<SocketAddress>> resolved;  // names of the URL, without a resolver
};

}  // namespace experiment::ngx
