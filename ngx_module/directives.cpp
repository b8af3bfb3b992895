#include "ngx_module/directives.h"

#include <algorithm>

#include "ngx_module/beacon.h"
#include "ngx_module/conf.h"
#include "ngx_module/config_error.h"
#include "ngx_module/directive_args.h"
#include "ngx_module/metrics.h"
#include "ngx_module/pin.h"
#include "ngx_module/pool.h"
#include "ngx_module/store_directive.h"
#include "ngx_module/variables.h"
#include "ngx_module/zone.h"
#include "shared/definition_key.h"

namespace experiment::ngx {
namespace {

constexpr ngx_int_t kMostCohorts = 100000;

char* set_path(ngx_conf_t* cf, std::string& out) {
  if (!out.empty()) return const_cast<char*>("is duplicate");
  ngx_str_t path = arg(cf, 1);
  if (ngx_conf_full_name(cf->cycle, &path, 1) != NGX_OK) return conf_error();
  out = view(path);
  return NGX_CONF_OK;
}

// A token of RFC 9110, which names of cookies and of headers are.
bool is_token(std::string_view text) noexcept {
  constexpr std::string_view kSeparators = "()<>@,;:\\\"/[]?={}";
  auto legal = [&](char c) { return c > ' ' && c < 127 && kSeparators.find(c) == kSeparators.npos; };
  return !text.empty() && std::all_of(text.begin(), text.end(), legal);
}

// zone=NAME:SIZE state=DIRECTORY [filter=SIZE]
char* set_zone(ngx_conf_t* cf, ngx_command_t* command, void*) noexcept {
  return guard_directive(cf, command, [&]() -> char* {
    MainConf& conf = main_of(cf);
    if (conf.shm != nullptr) return const_cast<char*>("is duplicate");
    ngx_str_t name = ngx_null_string;
    ssize_t bytes = 0;
    for (ngx_str_t& token : args_from(cf, 1)) {
      std::string_view text = view(token);
      if (is_repeated(cf, token)) return expected(cf, token, "each parameter once");
      if (take_prefix(text, "zone=")) {
        std::size_t colon = text.find(':');
        if (colon == 0 || colon == text.npos) return expected(cf, token, "zone=NAME:SIZE");
        ngx_str_t size = borrow(text.substr(colon + 1));
        name = borrow(text.substr(0, colon));
        bytes = ngx_parse_size(&size);
        if (bytes == NGX_ERROR) return expected(cf, token, "zone=NAME:SIZE with a size such as 24m");
      } else if (take_prefix(text, "state=")) {
        ngx_str_t path = borrow(text);
        if (text.empty() || ngx_conf_full_name(cf->cycle, &path, 0) != NGX_OK) {
          return expected(cf, token, "state=DIRECTORY");
        }
        conf.state_directory = view(path);
      } else if (take_prefix(text, "filter=")) {
        ngx_str_t size = borrow(text);
        ssize_t filter = ngx_parse_size(&size);
        if (filter < 4096) return expected(cf, token, "filter=SIZE of at least 4k");
        conf.filter_bytes = static_cast<std::size_t>(filter);
      } else {
        return expected(cf, token, "zone=NAME:SIZE, state=DIRECTORY or filter=SIZE");
      }
    }
    if (name.len == 0 || conf.state_directory.empty()) {
      ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" lacks \"%s\", expected zone=NAME:SIZE state=DIRECTORY",
                         &arg(cf, 0), name.len == 0 ? "zone=" : "state=");
      return conf_error();
    }
    conf.zone_name = view(name);
    if (conf.filter_bytes == 0) conf.filter_bytes = static_cast<std::size_t>(bytes) / 6;
    return add_zone(cf, conf, static_cast<std::size_t>(bytes)) && register_variables(cf, conf) ? NGX_CONF_OK
                                                                                               : conf_error();
  });
}

// NAME SOURCE... [mint]
char* set_unit(ngx_conf_t* cf, ngx_command_t* command, void*) noexcept {
  return guard_directive(cf, command, [&]() -> char* {
    MainConf& conf = main_of(cf);
    auto unit = std::make_unique<Unit>();
    unit->name = view(arg(cf, 1));
    if (!shared::is_key(unit->name)) return expected(cf, arg(cf, 1), "a name of the form [a-z][a-z0-9]*(-[a-z0-9]+)*");
    for (const auto& known : conf.units) {
      if (known->name == unit->name) return expected(cf, arg(cf, 1), "a name that no other unit has");
    }
    for (ngx_str_t& token : args_from(cf, 2)) {
      std::string_view text = view(token);
      UnitSource source;
      if (text == "mint") {
        unit->mint = true;
        continue;
      } else if (take_prefix(text, "cookie=") && !text.empty()) {
        if (!is_token(text)) return expected(cf, token, "a cookie name, as RFC 6265 has it");
        source.cookie.emplace();
        if (!register_cookie(cf, text, *source.cookie)) return conf_error();
      } else if (take_prefix(text, "header=") && !text.empty()) {
        if (!is_token(text)) return expected(cf, token, "a header name");
        for (char c : text) source.header.push_back(static_cast<char>(ngx_tolower(c)));
      } else if (take_prefix(text, "$") && !text.empty()) {
        source.index = variable_index(cf, text);
        if (source.index == NGX_ERROR) return conf_error();
      } else {
        return expected(cf, token, "cookie=NAME, header=NAME, a $variable or mint");
      }
      unit->sources.push_back(std::move(source));
    }
    if (unit->sources.empty())
      return expected(cf, arg(cf, 1), "a source behind it: cookie=NAME, header=NAME or a $variable");
    if (unit->mint && unit->minted() == nullptr) {
      return expected(cf, arg(cf, 1), "a cookie=NAME source to mint into, since only a cookie remembers an id");
    }
    unit->header = unit->sources[0].header;
    conf.units.push_back(std::move(unit));
    return NGX_CONF_OK;
  });
}

char* set_keys(ngx_conf_t* cf, ngx_command_t* command, void*) noexcept {
  return guard_directive(cf, command, [&]() -> char* {
    MainConf& conf = main_of(cf);
    if (char* rc = set_path(cf, conf.keys_file); rc != NGX_CONF_OK) return rc;
    std::string error;
    conf.keys = read_keys(conf.keys_file, error);
    if (conf.keys) return NGX_CONF_OK;
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"experiment_keys\" %s", error.c_str());
    return conf_error();
  });
}

char* set_kill_file(ngx_conf_t* cf, ngx_command_t* command, void*) noexcept {
  return guard_directive(cf, command, [&] { return set_path(cf, main_of(cf).kill_file); });
}

bool is_pattern(std::string_view text) {
  if (text == "all") return true;
  if (!text.empty() && text.back() == '*') {
    text.remove_suffix(1);
    auto legal = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
    return !text.empty() && text.size() < 40 && text[0] >= 'a' && text[0] <= 'z' &&
           std::all_of(text.begin(), text.end(), legal);
  }
  return shared::is_key(text);
}

// PATTERN... | all | off
char* set_placement(ngx_conf_t* cf, ngx_command_t* command, void* data) noexcept {
  return guard_directive(cf, command, [&]() -> char* {
    MainConf& main = main_of(cf);
    auto& conf = *static_cast<LocConf*>(data);
    if (conf.placement_set != NGX_CONF_UNSET) return const_cast<char*>("is duplicate");
    conf.placement_set = 1;
    std::vector<std::string> patterns;
    for (ngx_str_t& token : args_from(cf, 1)) {
      if (view(token) == "off") {
        if (cf->args->nelts != 2) return expected(cf, token, "\"off\" alone");
        return NGX_CONF_OK;
      }
      if (!is_pattern(view(token))) return expected(cf, token, "an experiment key, \"prefix-*\", \"all\" or \"off\"");
      patterns.emplace_back(view(token));
    }
    for (const auto& known : main.placements) {
      if (known->patterns == patterns) conf.placement = known.get();
    }
    if (conf.placement == nullptr) {
      auto placement = std::make_unique<Placement>();
      placement->patterns = std::move(patterns);
      placement->number = main.placements.size();
      placement->place = std::string(view(cf->conf_file->file.name)) + ":" + std::to_string(cf->conf_file->line);
      placement->nothing = make_in_pool<Pin>(cf->pool);
      if (placement->nothing == nullptr) return conf_error();
      placement->nothing->decided = placement.get();
      conf.placement = placement.get();
      main.placements.push_back(std::move(placement));
    }
    return NGX_CONF_OK;
  });
}

ngx_http_complex_value_t* compile(ngx_conf_t* cf, std::string_view text) noexcept {
  auto* value = static_cast<ngx_http_complex_value_t*>(ngx_pcalloc(cf->pool, sizeof(ngx_http_complex_value_t)));
  ngx_str_t source = borrow(text);
  ngx_http_compile_complex_value_t ccv{};
  ccv.cf = cf;
  ccv.value = &source;
  ccv.complex_value = value;
  return value != nullptr && ngx_http_compile_complex_value(&ccv) == NGX_OK ? value : nullptr;
}

// GOAL [value=VALUE] [id=VALUE]
char* set_reward(ngx_conf_t* cf, ngx_command_t* command, void* data) noexcept {
  return guard_directive(cf, command, [&]() -> char* {
    auto& conf = *static_cast<LocConf*>(data);
    RewardRule rule;
    rule.goal = view(arg(cf, 1));
    if (!shared::is_key(rule.goal)) return expected(cf, arg(cf, 1), "a goal key");
    for (ngx_str_t& token : args_from(cf, 2)) {
      std::string_view text = view(token);
      ngx_http_complex_value_t** place = nullptr;
      if (take_prefix(text, "value=")) {
        place = &rule.value;
      } else if (take_prefix(text, "id=")) {
        place = &rule.id;
      }
      if (place == nullptr || *place != nullptr || text.empty())
        return expected(cf, token, "value=VALUE or id=VALUE, once each");
      if ((*place = compile(cf, text)) == nullptr) return conf_error();
    }
    if (conf.rewards == nullptr) conf.rewards = make_in_pool<std::vector<RewardRule>>(cf->pool);
    if (conf.rewards == nullptr) return conf_error();
    for (const auto& known : *conf.rewards) {
      if (known.goal == rule.goal) return expected(cf, arg(cf, 1), "each goal once in a location");
    }
    main_of(cf).reward_goals.push_back(rule.goal);
    conf.rewards->push_back(std::move(rule));
    return NGX_CONF_OK;
  });
}

// on | off | $variable
char* set_exposure(ngx_conf_t* cf, ngx_command_t* command, void* data) noexcept {
  return guard_directive(cf, command, [&]() -> char* {
    auto& conf = *static_cast<LocConf*>(data);
    if (conf.exposure != nullptr) return const_cast<char*>("is duplicate");
    std::string_view text = view(arg(cf, 1));
    if (text != "on" && text != "off" && text.find('$') == text.npos) {
      return expected(cf, arg(cf, 1), "\"on\", \"off\" or a $variable");
    }
    conf.exposure = compile(cf, text);
    return conf.exposure != nullptr ? NGX_CONF_OK : conf_error();
  });
}

bool set_secure(ngx_conf_t* cf, std::string_view text, CookieConf& cookie) {
  if (text == "auto" || text == "on" || text == "off") {
    cookie.secure = text == "auto" ? Secure::kAuto : text == "on" ? Secure::kOn : Secure::kOff;
    return true;
  }
  if (!take_prefix(text, "$")) return false;
  cookie.secure = Secure::kVariable;
  cookie.secure_index = variable_index(cf, text);
  return cookie.secure_index != NGX_ERROR;
}

// NAME [domain=D] [secure=auto|on|off|$variable] [samesite=Lax|Strict|None] [max_age=TIME]
char* set_cookie(ngx_conf_t* cf, ngx_command_t* command, void* data) noexcept {
  return guard_directive(cf, command, [&]() -> char* {
    auto& conf = *static_cast<LocConf*>(data);
    if (conf.cookie != nullptr) return const_cast<char*>("is duplicate");
    conf.cookie = make_in_pool<CookieConf>(cf->pool);
    if (conf.cookie == nullptr) return conf_error();
    std::string_view name = view(arg(cf, 1));
    if (!is_token(name)) return expected(cf, arg(cf, 1), "a cookie name, as RFC 6265 has it");
    if (!register_cookie(cf, name, conf.cookie->name)) return conf_error();
    for (ngx_str_t& token : args_from(cf, 2)) {
      std::string_view text = view(token);
      if (take_prefix(text, "domain=")) {
        if (text.empty() || text.find(';') != text.npos) return expected(cf, token, "domain=HOST");
        conf.cookie->domain = text;
      } else if (take_prefix(text, "secure=")) {
        if (!set_secure(cf, text, *conf.cookie)) return expected(cf, token, "secure=auto, on, off or a $variable");
      } else if (take_prefix(text, "samesite=")) {
        if (text != "Lax" && text != "Strict" && text != "None")
          return expected(cf, token, "samesite=Lax, Strict or None");
        conf.cookie->same_site = text;
      } else if (take_prefix(text, "max_age=")) {
        ngx_str_t time = borrow(text);
        conf.cookie->max_age_s = ngx_parse_time(&time, 1);
        if (conf.cookie->max_age_s <= 0 || conf.cookie->max_age_s > 395 * 86400) {
          return expected(cf, token, "max_age=TIME from 1s to 395d");
        }
      } else {
        return expected(cf, token, "domain=, secure=, samesite= or max_age=");
      }
    }
    if (!conf.cookie->domain.empty() && name.substr(0, 7) == "__Host-") {
      return expected(cf, arg(cf, 1), "a name without __Host-, which forbids domain=");
    }
    return NGX_CONF_OK;
  });
}

// private | tagged | off
char* set_isolation(ngx_conf_t* cf, ngx_command_t*, void* data) noexcept {
  auto& conf = *static_cast<LocConf*>(data);
  if (conf.isolation != NGX_CONF_UNSET_UINT) return const_cast<char*>("is duplicate");
  std::string_view text = view(arg(cf, 1));
  if (text != "private" && text != "tagged" && text != "off") {
    return expected(cf, arg(cf, 1), "\"private\", \"tagged\" or \"off\"");
  }
  Isolation isolation = text == "private"  ? Isolation::kPrivate
                        : text == "tagged" ? Isolation::kTagged
                                           : Isolation::kOff;
  conf.isolation = static_cast<ngx_uint_t>(isolation);
  return NGX_CONF_OK;
}

// NUMBER
char* set_cohort_max(ngx_conf_t* cf, ngx_command_t*, void* data) noexcept {
  auto& conf = *static_cast<LocConf*>(data);
  if (conf.cohort_max != NGX_CONF_UNSET_UINT) return const_cast<char*>("is duplicate");
  ngx_int_t number = ngx_atoi(arg(cf, 1).data, arg(cf, 1).len);
  if (number < 1 || number > kMostCohorts) return expected(cf, arg(cf, 1), "a number from 1 to 100000");
  conf.cohort_max = static_cast<ngx_uint_t>(number);
  return NGX_CONF_OK;
}

char* set_content_handler(ngx_conf_t* cf, ngx_http_handler_pt handler) noexcept {
  main_of(cf).content_handlers = true;
  auto* core = static_cast<ngx_http_core_loc_conf_t*>(ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module));
  core->handler = handler;
  return NGX_CONF_OK;
}

char* set_beacon(ngx_conf_t* cf, ngx_command_t*, void*) noexcept {
  return set_content_handler(cf, beacon_handler);
}
char* set_metrics(ngx_conf_t* cf, ngx_command_t*, void*) noexcept {
  return set_content_handler(cf, metrics_handler);
}

ngx_str_t kDefaultTypes[] = {ngx_string("text/html"), ngx_null_string};

constexpr ngx_uint_t kEverywhere = NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF;
constexpr ngx_uint_t kLocation = NGX_HTTP_LOC_CONF | NGX_HTTP_LIF_CONF;

}  // namespace

ngx_command_t kDirectives[] = {
    {ngx_string("experiment_zone"), NGX_HTTP_MAIN_CONF | NGX_CONF_2MORE, set_zone, NGX_HTTP_MAIN_CONF_OFFSET, 0,
     nullptr},
    {ngx_string("experiment_store"), NGX_HTTP_MAIN_CONF | NGX_CONF_1MORE, set_store, NGX_HTTP_MAIN_CONF_OFFSET, 0,
     nullptr},
    {ngx_string("experiment_unit"), NGX_HTTP_MAIN_CONF | NGX_CONF_2MORE, set_unit, NGX_HTTP_MAIN_CONF_OFFSET, 0,
     nullptr},
    {ngx_string("experiment_keys"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, set_keys, NGX_HTTP_MAIN_CONF_OFFSET, 0,
     nullptr},
    {ngx_string("experiment_kill_file"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, set_kill_file, NGX_HTTP_MAIN_CONF_OFFSET,
     0, nullptr},
    {ngx_string("experiment"), kEverywhere | NGX_HTTP_LIF_CONF | NGX_CONF_1MORE, set_placement,
     NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("experiment_types"), kEverywhere | NGX_CONF_1MORE, ngx_http_types_slot, NGX_HTTP_LOC_CONF_OFFSET,
     offsetof(LocConf, types_keys), &kDefaultTypes[0]},
    {ngx_string("experiment_exposure"), kEverywhere | NGX_HTTP_LIF_CONF | NGX_CONF_TAKE1, set_exposure,
     NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("experiment_isolation"), kEverywhere | NGX_CONF_TAKE1, set_isolation, NGX_HTTP_LOC_CONF_OFFSET, 0,
     nullptr},
    {ngx_string("experiment_cache"), kEverywhere | NGX_CONF_FLAG, ngx_conf_set_flag_slot, NGX_HTTP_LOC_CONF_OFFSET,
     offsetof(LocConf, cache), nullptr},
    {ngx_string("experiment_cohort_max"), kEverywhere | NGX_CONF_TAKE1, set_cohort_max, NGX_HTTP_LOC_CONF_OFFSET, 0,
     nullptr},
    {ngx_string("experiment_cookie"), kEverywhere | NGX_CONF_1MORE, set_cookie, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("experiment_reward"), kLocation | NGX_CONF_1MORE, set_reward, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("experiment_beacon"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, set_beacon, NGX_HTTP_LOC_CONF_OFFSET, 0,
     nullptr},
    {ngx_string("experiment_metrics"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, set_metrics, NGX_HTTP_LOC_CONF_OFFSET, 0,
     nullptr},
    ngx_null_command};

}  // namespace experiment::ngx
