// The variables: of one experiment by prefix, of the request as a whole by name. All are not cacheable: each read is a
// pure function of the pin and the location, and a cached value would be stale after `rewrite ... last`.
#pragma once

#include "ngx_module/conf.h"

namespace experiment::ngx {

// Called by experiment_zone, so that a configuration without it has none of them. False: out of memory, already logged.
bool register_variables(ngx_conf_t* cf, MainConf& conf) noexcept;
// Gives every prefix variable in use a slot, so that none is looked up by name at run time. After the configuration was
// read.
void number_variables(ngx_cycle_t* cycle, MainConf& conf);

}  // namespace experiment::ngx
