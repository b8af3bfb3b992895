#include "ngx_module/variables.h"

#include <algorithm>
#include <array>

#include "ngx_module/cohort.h"
#include "ngx_module/decide.h"
#include "ngx_module/worker.h"

namespace experiment::ngx {
namespace {

// nginx hands a prefix variable's handler the address of its name; number_variables() puts a slot in its place, which
// no address is.
constexpr std::uintptr_t kMaxSlots = 4096;

ngx_int_t set(ngx_http_variable_value_t* v, std::string_view text) noexcept {
  ngx_http_variable_value_t value{};
  value.valid = 1;
  value.no_cacheable = 1;
  value.not_found = text.empty();
  value.len = static_cast<unsigned>(text.size()) & 0xfffffff;
  value.data = borrow(text).data;
  *v = value;
  return NGX_OK;
}

// Index into the plan's experiments; -1: no definition has it.
int experiment_at(const Plan& plan, std::uintptr_t data, std::size_t prefix) noexcept {
  if (data < kMaxSlots) return plan.variables[data];
  // Asked for by name at run time (SSI, scripts).
  return plan.find_variable(view(*reinterpret_cast<const ngx_str_t*>(data)).substr(prefix));
}

constexpr std::string_view kVariant = "variant_", kReason = "experiment_reason_", kEpoch = "experiment_epoch_",
                           kPropensity = "experiment_propensity_";

// nullptr: nothing was decided about it.
inline const Decision* decision_at(ngx_http_request_t* r, std::uintptr_t data, std::string_view prefix) noexcept {
  Pin* pin = ensure_decisions(r);
  if (pin == nullptr && r != r->main) pin = ensure_pin(r);  // to say it once
  if (pin == nullptr) return nullptr;
  int experiment = experiment_at(*pin->plan, data, prefix.size());
  const Decision* decision = pin->find(experiment);
  if (decision == nullptr && r != r->main) warn_subrequest(r, *pin, experiment);
  return decision;
}

inline ngx_int_t set_variant(ngx_http_variable_value_t* v, const Decision* decision) noexcept {
  if (decision == nullptr || !decision->enrolled()) return set(v, {});
  *v = decision->experiment->values[decision->arm];
  return NGX_OK;
}

ngx_int_t get_variant(ngx_http_request_t* r, ngx_http_variable_value_t* v, std::uintptr_t data) noexcept {
  return set_variant(v, decision_at(r, data, kVariant));
}

// Of a variable that was numbered. Pages read their variants in the order of the document more often than not, so the
// one behind the last is looked at first.
ngx_int_t get_numbered_variant(ngx_http_request_t* r, ngx_http_variable_value_t* v, std::uintptr_t data) noexcept {
  Pin* pin = context_of(r);
  if (pin == nullptr || pin->plan == nullptr || pin->decided != loc_conf(r).placement) return get_variant(r, v, data);
  const Decision* next = pin->next;
  if (next->index != pin->plan->variables[data]) return get_variant(r, v, data);
  pin->next = next + 1;
  return set_variant(v, next);
}

// Why there is no decision.
bandit::Reason absence(ngx_http_request_t* r, std::uintptr_t data) noexcept {
  using bandit::Reason;
  if (r != r->main) return Reason::kSubrequest;
  const Placement* placement = loc_conf(r).placement;
  const Pin* pin = find_pin(r);
  const Plan* plan = pin != nullptr ? pin->plan : current_plan();
  int experiment = plan == nullptr || placement == nullptr ? -1 : experiment_at(*plan, data, kReason.size());
  if (experiment < 0) return Reason::kUnknown;
  const auto& off = plan->placements[placement->number].off;
  bool here = std::binary_search(off.begin(), off.end(), static_cast<std::uint16_t>(experiment));
  return here ? plan->off(static_cast<std::size_t>(experiment)) : Reason::kUnknown;
}

ngx_int_t get_reason(ngx_http_request_t* r, ngx_http_variable_value_t* v, std::uintptr_t data) noexcept {
  const Decision* decision = decision_at(r, data, kReason);
  return set(v, bandit::reason_token(decision == nullptr ? absence(r, data) : decision->reason));
}

ngx_int_t get_epoch(ngx_http_request_t* r, ngx_http_variable_value_t* v, std::uintptr_t data) noexcept {
  const Decision* decision = decision_at(r, data, kEpoch);
  if (decision == nullptr || !decision->enrolled() || decision->epoch == 0) return set(v, {});
  auto* text = static_cast<u_char*>(ngx_pnalloc(r->pool, NGX_INT64_LEN));
  if (text == nullptr) return NGX_ERROR;
  u_char* end = ngx_sprintf(text, "%uL", decision->epoch);
  return set(v, {reinterpret_cast<char*>(text), static_cast<std::size_t>(end - text)});
}

// The probability with which this unit got this arm in its epoch, in ten-thousandths exactly: "0.3334".
ngx_int_t get_propensity(ngx_http_request_t* r, ngx_http_variable_value_t* v, std::uintptr_t data) noexcept {
  const Decision* decision = decision_at(r, data, kPropensity);
  if (decision == nullptr || !decision->enrolled() || decision->epoch == 0) return set(v, {});
  const shared::EpochBlock* epoch = worker_zone().find_epoch(*decision->experiment->block, decision->epoch);
  if (epoch == nullptr) return set(v, {});  // the answer took longer than the window of its rewards
  unsigned slots = decision->baseline ? bandit::kSlots : epoch->quotas[decision->arm];
  auto* text = static_cast<u_char*>(ngx_pnalloc(r->pool, 16));
  if (text == nullptr) return NGX_ERROR;
  u_char* end = ngx_sprintf(text, "%ui.%04ui", static_cast<ngx_uint_t>(slots / bandit::kSlots),
                            static_cast<ngx_uint_t>(slots % bandit::kSlots));
  return set(v, {reinterpret_cast<char*>(text), static_cast<std::size_t>(end - text)});
}

ngx_int_t get_cohort(ngx_http_request_t* r, ngx_http_variable_value_t* v, std::uintptr_t) noexcept {
  return set(v, cohort_token(r, ensure_decisions(r), CohortScope::kInward));
}

// NUL token NUL: the one byte that neither a header nor $uri can hold, so no URL forges a key.
ngx_int_t get_cache_key(ngx_http_request_t* r, ngx_http_variable_value_t* v, std::uintptr_t) noexcept {
  std::string_view token = cohort_token(r, ensure_decisions(r), CohortScope::kInward);
  if (token.empty()) return NGX_ERROR;
  if (token == "-") return set(v, {});
  auto* key = static_cast<char*>(ngx_pnalloc(r->pool, token.size() + 2));
  if (key == nullptr) return NGX_ERROR;
  key[0] = key[token.size() + 1] = '\0';
  std::memcpy(key + 1, token.data(), token.size());
  return set(v, {key, token.size() + 2});
}

ngx_int_t get_assignments(ngx_http_request_t* r, ngx_http_variable_value_t* v, std::uintptr_t) noexcept {
  return set(v, assignments(r, ensure_decisions(r)));
}

// A pseudonym under the edge's key, of the unit of the first decision, else of the first unit declared: safe to log.
ngx_int_t get_unit_hash(ngx_http_request_t* r, ngx_http_variable_value_t* v, std::uintptr_t) noexcept {
  Pin* pin = ensure_decisions(r);
  if (pin == nullptr) pin = ensure_pin(r);
  if (pin == nullptr || main_conf(r).units.empty()) return set(v, {});
  int unit = pin->count == 0 ? 0 : pin->decisions[0].experiment->unit;
  const UnitValue& value = unit_of(r, *pin, unit);
  if (value.state != UnitValue::kPresent) return set(v, {});
  auto* text = static_cast<char*>(ngx_pnalloc(r->pool, shared::KeyRing::kPseudonymChars));
  if (text == nullptr) return NGX_ERROR;
  worker_keys().pseudonym(value.id(), text);
  return set(v, {text, shared::KeyRing::kPseudonymChars});
}

struct Named {
  ngx_str_t name;
  ngx_http_get_variable_pt get;
  bool prefix;
};
const std::array<Named, 8> kVariables = {{{ngx_string("variant_"), get_variant, true},
                                          {ngx_string("experiment_reason_"), get_reason, true},
                                          {ngx_string("experiment_epoch_"), get_epoch, true},
                                          {ngx_string("experiment_propensity_"), get_propensity, true},
                                          {ngx_string("experiment_cohort"), get_cohort, false},
                                          {ngx_string("experiment_cache_key"), get_cache_key, false},
                                          {ngx_string("experiment_assignments"), get_assignments, false},
                                          {ngx_string("experiment_unit_hash"), get_unit_hash, false}}};

}  // namespace

bool register_variables(ngx_conf_t* cf, MainConf&) noexcept {
  for (const Named& named : kVariables) {
    ngx_str_t name = named.name;
    ngx_uint_t flags = NGX_HTTP_VAR_NOCACHEABLE | (named.prefix ? NGX_HTTP_VAR_PREFIX : 0);
    ngx_http_variable_t* variable = ngx_http_add_variable(cf, &name, flags);
    if (variable == nullptr) return false;
    variable->get_handler = named.get;
  }
  return true;
}

void number_variables(ngx_cycle_t* cycle, MainConf& conf) {
  auto* core =
      static_cast<ngx_http_core_main_conf_t*>(ngx_http_cycle_get_module_main_conf(cycle, ngx_http_core_module));
  conf.variable_keys.clear();
  for (auto& variable : elements<ngx_http_variable_t>(&core->variables)) {
    for (const Named& named : kVariables) {
      if (!named.prefix || variable.get_handler != named.get) continue;
      std::string key(view(variable.name).substr(named.name.len));
      auto known = std::find(conf.variable_keys.begin(), conf.variable_keys.end(), key);
      auto slot = static_cast<std::uintptr_t>(known - conf.variable_keys.begin());
      if (slot >= kMaxSlots) return;  // by name from here on
      if (known == conf.variable_keys.end()) conf.variable_keys.push_back(std::move(key));
      variable.data = slot;
      if (named.get == get_variant) variable.get_handler = get_numbered_variant;
    }
  }
}

}  // namespace experiment::ngx
