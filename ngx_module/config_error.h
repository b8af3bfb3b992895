// Configuration errors: quoted, with what was expected, and never an exception across nginx.
#pragma once

#include <exception>

#include "ngx_module/ngx.h"

namespace experiment::ngx {

inline char* conf_error() noexcept {
  return static_cast<char*>(NGX_CONF_ERROR);
}

// Runs a directive's setter; an exception becomes an [emerg] line that names the directive.
template <typename F>
char* guard_directive(ngx_conf_t* cf, ngx_command_t* command, F&& set) noexcept {
  try {
    return set();
  } catch (const std::exception& e) {
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" failed: %s", &command->name, e.what());
  } catch (...) {
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" failed", &command->name);
  }
  return conf_error();
}

}  // namespace experiment::ngx
