#include "ngx_module/store_directive.h"

#include <string>

#include "ngx_module/directive_args.h"
#include "ngx_module/socket_address.h"
#include "ngx_module/store_tls.h"
#include "shared/redis_login.h"

namespace experiment::ngx {
namespace {

constexpr ngx_int_t kLeastTimeoutMs = 10;
constexpr ngx_int_t kMostTimeoutMs = 10000;

// A path relative to the configuration's. Requires: `text` ends as its token does, where nginx has put a NUL. False:
// out of memory.
bool set_file(ngx_conf_t* cf, std::string_view text, std::string& out) {
  ngx_str_t path = borrow(text);
  if (ngx_conf_full_name(cf->cycle, &path, 1) != NGX_OK) return false;
  out = view(path);
  return true;
}

bool set_timeout(std::string_view text, int& out_ms) noexcept {
  ngx_str_t time = borrow(text);
  ngx_int_t ms = ngx_parse_time(&time, 0);
  if (ms < kLeastTimeoutMs || ms > kMostTimeoutMs) return false;
  out_ms = static_cast<int>(ms);
  return true;
}

char* set_url(ngx_conf_t* cf, StoreConf& store) {
  std::string error;
  auto url = shared::parse_store_url(view(arg(cf, 1)), error);
  if (!url) {
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"experiment_store\": %s", error.c_str());
    return conf_error();
  }
  store.url = std::move(*url);
  store.access.tls = store.url.tls;
  return NGX_CONF_OK;
}

// One parameter behind the URL.
char* set_parameter(ngx_conf_t* cf, StoreConf& store, const ngx_str_t& token) {
  auto& access = store.access;
  std::string_view text = view(token);
  if (is_repeated(cf, token)) return expected(cf, token, "each parameter once");
  if (!text.empty() && text.back() == '=') return expected(cf, token, "a value");
  if (take_prefix(text, "namespace=")) {
    store.name_space = text;
    if (!shared::is_namespace(text))
      return expected(cf, token, "namespace=NAME of at most 40 letters, digits, \"_\", \"-\" and \".\"");
  } else if (take_prefix(text, "user=")) {
    access.user = text;
  } else if (take_prefix(text, "name=")) {
    access.server_name = text;
  } else if (take_prefix(text, "connect_timeout=")) {
    if (!set_timeout(text, access.connect_ms)) return expected(cf, token, "connect_timeout=TIME from 10ms to 10s");
  } else if (take_prefix(text, "command_timeout=")) {
    if (!set_timeout(text, access.command_ms)) return expected(cf, token, "command_timeout=TIME from 10ms to 10s");
  } else {
    std::string* file = take_prefix(text, "password_file=") ? &access.password_file
                        : take_prefix(text, "ca=")          ? &access.ca_file
                        : take_prefix(text, "certificate=") ? &access.certificate_file
                        : take_prefix(text, "key=")         ? &access.key_file
                                                            : nullptr;
    if (file == nullptr) {
      return expected(cf, token,
                      "namespace=, user=, password_file=, ca=, certificate=, key=, name=, connect_timeout= or "
                      "command_timeout=");
    }
    if (!set_file(cf, text, *file)) return conf_error();
  }
  return NGX_CONF_OK;
}

// The parameters against each other.
char* check_parameters(ngx_conf_t* cf, const StoreConf& store) {
  const auto& access = store.access;
  for (const ngx_str_t& token : args_from(cf, 2)) {
    const std::string_view name = view(token).substr(0, view(token).find('='));
    const bool of_tls = name == "ca" || name == "certificate" || name == "key" || name == "name";
    if (of_tls && !access.tls) return expected(cf, token, "a URL with TLS (rediss://) before it");
    if (name == "user" && access.password_file.empty()) return expected(cf, token, "password_file=PATH beside it");
    if (name == "certificate" && access.key_file.empty()) return expected(cf, token, "key=PATH beside it");
    if (name == "key" && access.certificate_file.empty()) return expected(cf, token, "certificate=PATH beside it");
  }
  return NGX_CONF_OK;
}

char* load_password(ngx_conf_t* cf, StoreConf& store) {
  auto login = shared::login_for(store.access);
  store.login = std::move(login.command);
  if (login.error.empty()) return NGX_CONF_OK;
  ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"experiment_store\": %s, expected a file whose first line it is",
                     login.error.c_str());
  return conf_error();
}

// Without a resolver, as proxy_pass does.
char* resolve_names(ngx_conf_t* cf, StoreConf& store) {
  for (const auto& endpoint : store.url.endpoints) {
    if (literal_address(endpoint)) continue;
    std::string error;
    auto addresses = resolve_now(cf, endpoint, error);
    if (addresses.empty()) {
      ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                         "\"%s\" in \"experiment_store\": %s; expected an address, a name that can be resolved now, "
                         "or a \"resolver\" in the http block",
                         endpoint.host.c_str(), error.c_str());
      return conf_error();
    }
    store.resolved[endpoint] = std::move(addresses);
  }
  return NGX_CONF_OK;
}

}  // namespace

char* set_store(ngx_conf_t* cf, ngx_command_t* command, void*) noexcept {
  return guard_directive(cf, command, [&]() -> char* {
    MainConf& conf = main_of(cf);
    if (conf.store) return const_cast<char*>("is duplicate");
    StoreConf& store = conf.store.emplace();
    if (char* rc = set_url(cf, store); rc != NGX_CONF_OK) return rc;
    for (const ngx_str_t& token : args_from(cf, 2)) {
      if (char* rc = set_parameter(cf, store, token); rc != NGX_CONF_OK) return rc;
    }
    if (char* rc = check_parameters(cf, store); rc != NGX_CONF_OK) return rc;
    if (char* rc = load_password(cf, store); rc != NGX_CONF_OK) return rc;
    return store.access.tls ? load_tls(cf, store) : NGX_CONF_OK;
  });
}

char* complete_store(ngx_conf_t* cf, MainConf& conf) noexcept {
  if (!conf.keys) {
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"experiment_store\" needs \"experiment_keys FILE;\": all edges of a fleet sign and read "
                       "cookies with one key ring");
    return conf_error();
  }
  auto* core = static_cast<ngx_http_core_loc_conf_t*>(ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module));
  // nginx puts an empty one where none was configured.
  if (core->resolver != nullptr && core->resolver->connections.nelts != 0) {
    conf.store->resolver = core->resolver;
    return NGX_CONF_OK;
  }
  try {
    return resolve_names(cf, *conf.store);
  } catch (const std::exception& e) {
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"experiment_store\" failed: %s", e.what());
    return conf_error();
  }
}

}  // namespace experiment::ngx
