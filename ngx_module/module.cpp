// START HERE: the two modules as nginx sees them. Tables and hooks only; what they do is in the files named by the
// functions.
//
// ngx_http_experiment_module carries everything; ngx_http_experiment_outward_filter_module exists because a module has
// one place in the filter chain, and we need two.
#include "ngx_module/conf.h"
#include "ngx_module/directives.h"
#include "ngx_module/header_filter.h"
#include "ngx_module/inbound.h"
#include "ngx_module/ngx.h"
#include "ngx_module/variables.h"
#include "ngx_module/worker.h"
#include "ngx_module/zone.h"

namespace experiment::ngx {
namespace {

bool is_on(ngx_conf_t* cf) noexcept {
  return static_cast<MainConf*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_experiment_module))->shm != nullptr;
}

bool add_phase(ngx_conf_t* cf, ngx_http_phases phase, ngx_http_handler_pt handler) noexcept {
  auto* core = static_cast<ngx_http_core_main_conf_t*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module));
  auto* place = static_cast<ngx_http_handler_pt*>(ngx_array_push(&core->phases[phase].handlers));
  if (place != nullptr) *place = handler;
  return place != nullptr;
}

// A configuration without experiment_zone gets no handler, no filter, no variable.
ngx_int_t install(ngx_conf_t* cf) noexcept {
  if (!is_on(cf)) return NGX_OK;
  if (!add_phase(cf, NGX_HTTP_POST_READ_PHASE, strip_inbound) ||
      !add_phase(cf, NGX_HTTP_PREACCESS_PHASE, forward_assignments)) {
    return NGX_ERROR;
  }
  install_first_filter();
  return NGX_OK;
}

ngx_int_t install_outward(ngx_conf_t* cf) noexcept {
  if (is_on(cf)) install_outward_filter();
  return NGX_OK;
}

ngx_int_t init_module(ngx_cycle_t* cycle) noexcept {
  auto* conf = static_cast<MainConf*>(ngx_http_cycle_get_module_main_conf(cycle, ngx_http_experiment_module));
  if (conf == nullptr || conf->shm == nullptr) return NGX_OK;
  try {
    number_variables(cycle, *conf);
    if (!ngx_test_config) {
      make_state_directory(cycle, *conf);
      hold_instance(cycle, *conf);
    }
  } catch (...) {
    return NGX_ERROR;
  }
  return NGX_OK;
}

ngx_http_module_t kContext = {nullptr, install, create_main_conf, init_main_conf,
                              nullptr, nullptr, create_loc_conf,  merge_loc_conf};
ngx_http_module_t kOutwardContext = {nullptr, install_outward, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};

}  // namespace
}  // namespace experiment::ngx

ngx_module_t ngx_http_experiment_module = {NGX_MODULE_V1,
                                           &experiment::ngx::kContext,
                                           experiment::ngx::kDirectives,
                                           NGX_HTTP_MODULE,
                                           nullptr,
                                           experiment::ngx::init_module,
                                           experiment::ngx::start_worker,
                                           nullptr,
                                           nullptr,
                                           experiment::ngx::end_worker,
                                           nullptr,
                                           NGX_MODULE_V1_PADDING};

ngx_module_t ngx_http_experiment_outward_filter_module = {NGX_MODULE_V1, &experiment::ngx::kOutwardContext,
                                                          nullptr,       NGX_HTTP_MODULE,
                                                          nullptr,       nullptr,
                                                          nullptr,       nullptr,
                                                          nullptr,       nullptr,
                                                          nullptr,       NGX_MODULE_V1_PADDING};
