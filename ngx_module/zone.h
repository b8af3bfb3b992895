// The shared memory zone on nginx's side: made, adopted on reload, refused when it is not ours; and the keys that lie
// beside it.
#pragma once

#include <optional>
#include <string>

#include "ngx_module/conf.h"
#include "shared/zone.h"

namespace experiment::ngx {

// Declares the zone. False: already logged.
bool add_zone(ngx_conf_t* cf, MainConf& conf, std::size_t bytes) noexcept;
// The zone of this configuration. Requires: nginx has initialised it.
shared::Zone zone_of(const MainConf& conf) noexcept;
// Holds nginx's own mutex of the zone: the only lock that nginx frees when its holder dies.
class ZoneLock {
 public:
  explicit ZoneLock(const MainConf& conf) noexcept : pool_(reinterpret_cast<ngx_slab_pool_t*>(conf.shm->shm.addr)) {
    ngx_shmtx_lock(&pool_->mutex);
  }
  ~ZoneLock() { ngx_shmtx_unlock(&pool_->mutex); }
  ZoneLock(const ZoneLock&) = delete;
  ZoneLock& operator=(const ZoneLock&) = delete;

 private:
  ngx_slab_pool_t* pool_;
};

// The key ring of `path`; nullopt and one line in `error`.
std::optional<shared::KeyRing> read_keys(const std::string& path, std::string& error);
// Makes the state directory for the worker processes' user. Trouble is logged and not fatal: the edge then serves
// without a store.
void make_state_directory(ngx_cycle_t* cycle, const MainConf& conf) noexcept;
// For the life of this configuration, in the master and in all that it forks: the zone's counts are those of a living
// instance, whether it has workers at the moment or not.
void hold_instance(ngx_cycle_t* cycle, const MainConf& conf);

}  // namespace experiment::ngx
