// What nginx.conf says about experiments: names, sources, places. What runs in them is in the document (see plan.h).
//
// Made in the configuration pool by nginx, read by every request, never written after the configuration was read.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ngx_module/ngx.h"
#include "ngx_module/store_conf.h"
#include "shared/key_ring.h"

namespace experiment::ngx {

// One source of a unit id, or of the assignment cookie. Cookies are indexed variables; with the __Host- prefix they
// have two names, since plain http cannot carry the prefix.
struct CookieName {
  std::string https;  // as configured
  std::string http;   // without the __Host- or __Secure- prefix
  ngx_int_t https_index = NGX_ERROR;
  ngx_int_t http_index = NGX_ERROR;
};
struct UnitSource {
  std::optional<CookieName> cookie;  // cookie= source: a unit with memory
  std::string header;                // header= source, in lower case: without
  ngx_int_t index = NGX_ERROR;       // $variable source: without
};
struct Unit {
  std::string name;
  std::vector<UnitSource> sources;
  std::string_view header;  // of the first source, where it is one
  bool mint = false;        // into the first cookie= source
  const CookieName* minted() const noexcept {
    for (const auto& source : sources) {
      if (source.cookie) return &*source.cookie;
    }
    return nullptr;
  }
};

enum class Secure { kAuto, kOn, kOff, kVariable };
struct CookieConf {
  CookieName name;
  std::string domain;
  std::string same_site = "Lax";
  Secure secure = Secure::kAuto;
  ngx_int_t secure_index = NGX_ERROR;
  std::int64_t max_age_s = 180 * 86400;
};

struct Pin;

struct Placement {
  std::vector<std::string> patterns;  // "key", "hero-*" or "all"; empty: off
  std::size_t number = 0;             // of the distinct list, index into Plan::placements
  std::string place;                  // file and line of its first use, for messages
  Pin* nothing = nullptr;             // stands for the pin of requests that find nothing live here; holds no plan
  std::size_t cohort_max = SIZE_MAX;  // least experiment_cohort_max of the locations that use it
};

struct RewardRule {
  std::string goal;
  ngx_http_complex_value_t* value = nullptr;
  ngx_http_complex_value_t* id = nullptr;
};

enum class Isolation : ngx_uint_t { kPrivate, kTagged, kOff };

struct MainConf {
  ngx_shm_zone_t* shm = nullptr;  // nullptr: no experiment_zone, the module does nothing at all
  std::string zone_name;
  std::size_t filter_bytes = 0;
  std::string state_directory;
  std::string keys_file;
  std::string kill_file;
  std::vector<std::unique_ptr<Unit>> units;
  std::vector<std::unique_ptr<Placement>> placements;  // distinct lists
  std::vector<std::string> variable_keys;              // key with underscores of each prefix variable in use, by slot
  std::vector<std::string> reward_goals;               // named by experiment_reward
  bool content_handlers = false;                       // experiment_beacon or experiment_metrics stands somewhere
  std::optional<shared::KeyRing> keys;
  std::optional<StoreConf> store;  // absent: the state directory is the store
  ngx_cycle_t* cycle = nullptr;
};

// nginx's merge functions want unset markers in plain fields; the C++ parts hang from pointers into the configuration
// pool.
struct LocConf {
  Placement* placement;  // nullptr: unset or off
  ngx_flag_t placement_set;
  ngx_hash_t types;
  ngx_array_t* types_keys;
  ngx_http_complex_value_t* exposure;  // nullptr: on
  ngx_uint_t isolation;
  ngx_flag_t cache;
  ngx_uint_t cohort_max;
  CookieConf* cookie;
  std::vector<RewardRule>* rewards;
};

inline MainConf& main_conf(ngx_http_request_t* r) noexcept {
  return *static_cast<MainConf*>(ngx_http_get_module_main_conf(r, ngx_http_experiment_module));
}
inline LocConf& loc_conf(ngx_http_request_t* r) noexcept {
  return *static_cast<LocConf*>(ngx_http_get_module_loc_conf(r, ngx_http_experiment_module));
}

void* create_main_conf(ngx_conf_t* cf) noexcept;
void* create_loc_conf(ngx_conf_t* cf) noexcept;
char* init_main_conf(ngx_conf_t* cf, void* conf) noexcept;
char* merge_loc_conf(ngx_conf_t* cf, void* parent, void* child) noexcept;

// Splits a cookie name in its https and http spelling and registers both variables. False: out of memory.
bool register_cookie(ngx_conf_t* cf, std::string_view name, CookieName& out);
// Index of a variable that nginx knows by name, NGX_ERROR when it cannot be had.
ngx_int_t variable_index(ngx_conf_t* cf, std::string_view name) noexcept;

}  // namespace experiment::ngx
