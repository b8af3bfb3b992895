#include "ngx_module/zone.h"

#include <algorithm>

#include "ngx_module/pool.h"
#include "ngx_module/worker.h"
#include "shared/base64url.h"
#include "shared/counter_files.h"
#include "shared/state_files.h"

namespace experiment::ngx {
namespace {

constexpr std::size_t kMaxKeysBytes = 65536;

std::uint32_t stripes_of(const MainConf& conf) noexcept {
  auto* core = reinterpret_cast<ngx_core_conf_t*>(ngx_get_conf(conf.cycle->conf_ctx, ngx_core_module));
  auto workers = static_cast<std::uint32_t>(core->worker_processes < 1 ? 1 : core->worker_processes);
  return std::min<std::uint32_t>(workers, shared::kMaxStripes);
}

// The memory that we keep: everything that nginx's slab has, in one piece.
void* take_everything(ngx_slab_pool_t* pool, std::size_t& bytes) noexcept {
  pool->log_nomem = 0;
  bytes = pool->pfree * ngx_pagesize;
  return ngx_slab_alloc(pool, bytes);
}

ngx_int_t format_zone(ngx_shm_zone_t* shm, MainConf& conf, ngx_slab_pool_t* pool) noexcept {
  std::uint8_t id[16];
  char instance[22];
  auto keys = shared::generate_key_file();
  if (!keys || !random_bytes(id, sizeof(id))) return NGX_ERROR;
  shared::encode_base64url(id, sizeof(id), instance);
  shared::ZoneOptions options;
  options.stripes = stripes_of(conf);
  options.filter_bytes = conf.filter_bytes;
  options.instance = {instance, sizeof(instance)};
  options.keys = *keys;
  std::size_t bytes = 0;
  void* memory = take_everything(pool, bytes);
  if (memory == nullptr || !shared::Zone::format(memory, bytes, options)) {
    ngx_log_error(
        NGX_LOG_EMERG, shm->shm.log, 0,
        "experiment_zone \"%V\" is too small: %uz bytes, expected at least %uz for filter=%uz; nothing was changed",
        &shm->shm.name, shm->shm.size, static_cast<std::size_t>(shared::Zone::least_bytes(options)) + 16 * ngx_pagesize,
        conf.filter_bytes);
    return NGX_ERROR;
  }
  pool->data = memory;
  return NGX_OK;
}

ngx_int_t adopt_zone(ngx_shm_zone_t* shm, MainConf& conf, ngx_slab_pool_t* pool) {
  std::string why;
  auto zone = shared::Zone::adopt(pool->data, static_cast<shared::ZoneHeader*>(pool->data)->bytes, why);
  if (zone && zone->header().filter_bytes != conf.filter_bytes) {
    why = "it has filter=" + std::to_string(zone->header().filter_bytes) + ", expected " +
          std::to_string(conf.filter_bytes) + " (a filter is resized together with its zone)";
    zone.reset();
  }
  if (zone) return NGX_OK;
  ngx_log_error(NGX_LOG_EMERG, shm->shm.log, 0,
                "experiment_zone \"%V\" cannot be taken over: %s; the old configuration stays in use", &shm->shm.name,
                why.c_str());
  return NGX_ERROR;
}

// Runs in the master, also for a reload that fails later and while old workers use the zone: it validates and adopts,
// never resets.
ngx_int_t init_zone(ngx_shm_zone_t* shm, void*) noexcept {
  auto& conf = *static_cast<MainConf*>(shm->data);
  auto* pool = reinterpret_cast<ngx_slab_pool_t*>(shm->shm.addr);
  try {
    return pool->data == nullptr ? format_zone(shm, conf, pool) : adopt_zone(shm, conf, pool);
  } catch (...) {
    return NGX_ERROR;
  }
}

}  // namespace

bool add_zone(ngx_conf_t* cf, MainConf& conf, std::size_t bytes) noexcept {
  ngx_str_t name = copy(cf->pool, conf.zone_name);
  if (name.data == nullptr) return false;
  if (bytes < 8 * ngx_pagesize) {
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "experiment_zone \"%V\" is too small: %uz bytes, expected some megabytes",
                       &name, bytes);
    return false;
  }
  conf.shm = ngx_shared_memory_add(cf, &name, bytes, &ngx_http_experiment_module);
  if (conf.shm == nullptr) return false;
  if (conf.shm->data != nullptr) {
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "experiment_zone \"%V\" is declared twice", &name);
    return false;
  }
  conf.shm->init = init_zone;
  conf.shm->data = &conf;
  return true;
}

shared::Zone zone_of(const MainConf& conf) noexcept {
  auto* pool = reinterpret_cast<ngx_slab_pool_t*>(conf.shm->shm.addr);
  return *shared::Zone::open(pool->data);
}

std::optional<shared::KeyRing> read_keys(const std::string& path, std::string& error) {
  shared::FileText file = shared::read_file(path, kMaxKeysBytes);
  if (!file.error.empty()) {
    error = file.error + "; expected a file with one key of 64 hex digits per line";
    return std::nullopt;
  }
  auto keys = shared::KeyRing::parse(file.text, error);
  if (!keys) error = path + ": " + error;
  return keys;
}

void make_state_directory(ngx_cycle_t* cycle, const MainConf& conf) noexcept {
  auto* core = reinterpret_cast<ngx_core_conf_t*>(ngx_get_conf(cycle->conf_ctx, ngx_core_module));
  const char* path = conf.state_directory.c_str();
  bool made = mkdir(path, 0750) == 0;
  if (!made && errno != EEXIST) {
    ngx_log_error(NGX_LOG_ERR, cycle->log, errno,
                  "experiment: state directory \"%s\" cannot be made; experiments run from nothing and nothing is kept",
                  path);
    return;
  }
  if (geteuid() != 0 || core->user == static_cast<ngx_uid_t>(NGX_CONF_UNSET_UINT)) return;
  ngx_file_info_t info;
  if (ngx_file_info(reinterpret_cast<const u_char*>(path), &info) == NGX_FILE_ERROR ||
      (!made && info.st_uid == core->user))
    return;
  if (chown(path, core->user, core->group) == -1) {
    ngx_log_error(
        NGX_LOG_ERR, cycle->log, errno,
        "experiment: state directory \"%s\" cannot be given to the workers' user; what they learn is not kept", path);
  }
}

void hold_instance(ngx_cycle_t* cycle, const MainConf& conf) {
  std::string instance(zone_of(conf).header().instance.data());
  make_in_pool<shared::FileLock>(cycle->pool, shared::hold_instance(conf.state_directory, instance));
}

}  // namespace experiment::ngx
