// What setters of directives read: the tokens behind a directive's name, and the line that refuses one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "ngx_module/conf.h"
#include "ngx_module/config_error.h"
#include "ngx_module/ngx.h"

namespace experiment::ngx {

using Args = Range<ngx_str_t>;

inline Args args_of(ngx_conf_t* cf) noexcept {
  return elements<ngx_str_t>(cf->args);
}
inline ngx_str_t& arg(ngx_conf_t* cf, std::size_t i) noexcept {
  return args_of(cf).first[i];
}
// The tokens from number `i` on.
inline Args args_from(ngx_conf_t* cf, std::size_t i) noexcept {
  return {args_of(cf).first + i, args_of(cf).last};
}
inline MainConf& main_of(ngx_conf_t* cf) noexcept {
  return *static_cast<MainConf*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_experiment_module));
}

inline bool take_prefix(std::string_view& text, std::string_view prefix) noexcept {
  if (text.substr(0, prefix.size()) != prefix) return false;
  text.remove_prefix(prefix.size());
  return true;
}

inline char* expected(ngx_conf_t* cf, const ngx_str_t& got, const char* what) noexcept {
  ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" in \"%V\", expected %s", &got, &arg(cf, 0), what);
  return conf_error();
}

// Whether a parameter NAME=VALUE before this one has its name.
inline bool is_repeated(ngx_conf_t* cf, const ngx_str_t& token) noexcept {
  std::string_view name = view(token).substr(0, view(token).find('=') + 1);
  const ngx_str_t* first = args_of(cf).first + 1;
  auto has_name = [&](const ngx_str_t& other) { return view(other).substr(0, name.size()) == name; };
  return !name.empty() && std::any_of(first, &token, has_name);
}

}  // namespace experiment::ngx
