#include "ngx_module/conf.h"

#include <algorithm>

#include "ngx_module/config_error.h"
#include "ngx_module/pool.h"
#include "ngx_module/store_directive.h"

namespace experiment::ngx {
namespace {

ngx_str_t kDefaultTypes[] = {ngx_string("text/html"), ngx_null_string};

std::string_view without_prefix(std::string_view cookie) {
  for (std::string_view prefix : {"__Host-", "__Secure-"}) {
    if (cookie.substr(0, prefix.size()) == prefix) return cookie.substr(prefix.size());
  }
  return cookie;
}

char* zone_missing(ngx_conf_t* cf) noexcept {
  ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                     "experiment directives are used without \"experiment_zone\": expected "
                     "\"experiment_zone zone=NAME:SIZE state=DIRECTORY;\" in the http block");
  return conf_error();
}

// Whether a directive stands there. Requires: not merged yet.
bool is_used(const LocConf& conf) noexcept {
  return conf.placement_set != NGX_CONF_UNSET || conf.types_keys != nullptr || conf.exposure != nullptr ||
         conf.isolation != NGX_CONF_UNSET_UINT || conf.cache != NGX_CONF_UNSET ||
         conf.cohort_max != NGX_CONF_UNSET_UINT || conf.cookie != nullptr || conf.rewards != nullptr;
}

char* default_cookie(ngx_conf_t* cf, LocConf& conf) {
  conf.cookie = make_in_pool<CookieConf>(cf->pool);
  if (conf.cookie == nullptr || !register_cookie(cf, "__Host-exp", conf.cookie->name)) return conf_error();
  return NGX_CONF_OK;
}

}  // namespace

ngx_int_t variable_index(ngx_conf_t* cf, std::string_view name) noexcept {
  ngx_str_t owned = copy(cf->pool, name);
  return owned.data == nullptr ? NGX_ERROR : ngx_http_get_variable_index(cf, &owned);
}

bool register_cookie(ngx_conf_t* cf, std::string_view name, CookieName& out) {
  out.https = name;
  out.http = without_prefix(name);
  out.https_index = variable_index(cf, "cookie_" + out.https);
  out.http_index = out.http == out.https ? out.https_index : variable_index(cf, "cookie_" + out.http);
  return out.https_index != NGX_ERROR && out.http_index != NGX_ERROR;
}

void* create_main_conf(ngx_conf_t* cf) noexcept {
  auto* conf = make_in_pool<MainConf>(cf->pool);
  if (conf != nullptr) conf->cycle = cf->cycle;
  return conf;
}

char* init_main_conf(ngx_conf_t* cf, void* data) noexcept {
  auto& conf = *static_cast<MainConf*>(data);
  if (conf.shm != nullptr) {
    if (conf.units.empty()) {
      ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                         "\"experiment_zone\" needs at least one \"experiment_unit\", such as "
                         "\"experiment_unit visitor cookie=__Host-uid mint;\"");
      return conf_error();
    }
    return conf.store ? complete_store(cf, conf) : NGX_CONF_OK;
  }
  bool used =
      !conf.units.empty() || !conf.keys_file.empty() || !conf.kill_file.empty() || conf.content_handlers || conf.store;
  return used ? zone_missing(cf) : NGX_CONF_OK;
}

void* create_loc_conf(ngx_conf_t* cf) noexcept {
  auto* conf = static_cast<LocConf*>(ngx_pcalloc(cf->pool, sizeof(LocConf)));
  if (conf == nullptr) return nullptr;
  conf->placement_set = NGX_CONF_UNSET;
  conf->isolation = NGX_CONF_UNSET_UINT;
  conf->cache = NGX_CONF_UNSET;
  conf->cohort_max = NGX_CONF_UNSET_UINT;
  return conf;
}

char* merge_loc_conf(ngx_conf_t* cf, void* parent, void* child) noexcept {
  auto& before = *static_cast<LocConf*>(parent);
  auto& conf = *static_cast<LocConf*>(child);
  if (static_cast<MainConf*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_experiment_module))->shm == nullptr) {
    return is_used(before) || is_used(conf) ? zone_missing(cf) : NGX_CONF_OK;
  }
  if (conf.placement_set == NGX_CONF_UNSET) {
    conf.placement = before.placement;
    conf.placement_set = before.placement_set;
  }
  if (conf.exposure == nullptr) conf.exposure = before.exposure;
  // An "if" inside a location is a location without a name: what that location rewards, it rewards.
  auto* core = static_cast<ngx_http_core_loc_conf_t*>(ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module));
  if (conf.rewards == nullptr && core->noname) conf.rewards = before.rewards;
  ngx_conf_merge_uint_value(conf.isolation, before.isolation, static_cast<ngx_uint_t>(Isolation::kPrivate));
  ngx_conf_merge_value(conf.cache, before.cache, 1);
  ngx_conf_merge_uint_value(conf.cohort_max, before.cohort_max, 64);
  if (conf.placement != nullptr) conf.placement->cohort_max = std::min(conf.placement->cohort_max, conf.cohort_max);
  if (ngx_http_merge_types(cf, &conf.types_keys, &conf.types, &before.types_keys, &before.types, kDefaultTypes) !=
      NGX_OK) {
    return conf_error();
  }
  if (conf.cookie == nullptr) {
    if (before.cookie == nullptr) {
      if (char* rc = default_cookie(cf, before); rc != NGX_CONF_OK) return rc;
    }
    conf.cookie = before.cookie;
  }
  return NGX_CONF_OK;
}

}  // namespace experiment::ngx
