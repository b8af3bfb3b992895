#include "ngx_module/cohort.h"

#include "ngx_module/decide.h"
#include "shared/cohort_token.h"

namespace experiment::ngx {
namespace {

struct Parts {
  shared::CohortPart* items = nullptr;
  std::size_t count = 0;
};

// Control that shares the cache entry of the not enrolled is part of neither token nor dictionary.
bool takes_part(const PlanExperiment& experiment, const Decision& decision, CohortScope scope) noexcept {
  if (!decision.applied || !decision.enrolled()) return false;
  if (experiment.edge && scope == CohortScope::kInward) return false;
  return !(experiment.control_cache_shared && decision.arm == experiment.rule.control_arm);
}

Parts parts_of(ngx_http_request_t* r, const Pin* pin, CohortScope scope) noexcept {
  Parts parts;
  if (pin == nullptr || pin->count == 0) return parts;
  parts.items = static_cast<shared::CohortPart*>(ngx_palloc(r->pool, pin->count * sizeof(shared::CohortPart)));
  if (parts.items == nullptr) return parts;
  for (const Decision& decision : pin->all()) {
    const PlanExperiment& experiment = experiment_of(*pin, decision);
    if (!takes_part(experiment, decision, scope)) continue;
    parts.items[parts.count++] = {experiment.key, experiment.variants[decision.arm], experiment.revision,
                                  decision.epoch, bandit::reason_token(decision.reason)};
  }
  return parts;
}

}  // namespace

std::string_view cohort_token(ngx_http_request_t* r, const Pin* pin, CohortScope scope) noexcept {
  Parts parts = parts_of(r, pin, scope);
  if (parts.count == 0) return "-";
  auto* out = static_cast<char*>(ngx_pnalloc(r->pool, shared::kMaxCohortToken));
  if (out == nullptr) return {};
  return {out, shared::write_cohort_token(parts.items, parts.count, out)};
}

std::string_view assignments(ngx_http_request_t* r, const Pin* pin) noexcept {
  Parts parts = parts_of(r, pin, CohortScope::kInward);
  if (parts.count == 0) return "none";
  auto* out = static_cast<char*>(ngx_pnalloc(r->pool, shared::assignments_length(parts.items, parts.count)));
  if (out == nullptr) return "none";
  return {out, shared::write_assignments(parts.items, parts.count, out)};
}

bool anything_applied(const Pin* pin) noexcept {
  if (pin == nullptr) return false;
  for (const Decision& decision : pin->all()) {
    if (decision.applied) return true;
  }
  return false;
}

}  // namespace experiment::ngx
