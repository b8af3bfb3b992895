#include "ngx_module/cohort.h"

#include <new>

#include "shared/cohort_token.h"

namespace experiment::ngx {
namespace {

constexpr std::string_view kNoCohort = "-", kNoAssignments = "none";

struct Parts {
  shared::CohortPart* items = nullptr;
  std::size_t count = 0;
};

// Control that shares the cache entry of the not enrolled is part of neither token nor dictionary.
bool takes_part(const Decision& decision, CohortScope scope) noexcept {
  if (!decision.applied || !decision.enrolled()) return false;
  const PlanExperiment& experiment = *decision.experiment;
  if (experiment.edge && scope == CohortScope::kInward) return false;
  return !(experiment.control_cache_shared && decision.arm == experiment.rule.control_arm);
}

// In the order of keys: whoever decides in another order (another document, redirects) gets the same texts.
Parts parts_of(ngx_http_request_t* r, const Pin& pin, CohortScope scope) noexcept {
  Parts parts;
  auto* chosen = static_cast<const Decision**>(
      ngx_palloc(r->pool, pin.count * (sizeof(const Decision*) + sizeof(shared::CohortPart))));
  if (chosen == nullptr) return parts;
  const std::uint16_t* ranks = pin.plan->ranks.data();
  for (const Decision& decision : pin.all()) {
    if (!takes_part(decision, scope)) continue;
    std::size_t place = parts.count++;
    for (; place > 0 && ranks[chosen[place - 1]->index] > ranks[decision.index]; --place)
      chosen[place] = chosen[place - 1];
    chosen[place] = &decision;
  }
  parts.items = reinterpret_cast<shared::CohortPart*>(chosen + pin.count);
  for (std::size_t i = 0; i < parts.count; ++i) {
    const Decision& decision = *chosen[i];
    const PlanArm& arm = decision.experiment->arms[decision.arm];
    new (&parts.items[i])
        shared::CohortPart{arm.token, arm.member, decision.epoch, bandit::reason_token(decision.reason)};
  }
  return parts;
}

std::string_view write_token(ngx_http_request_t* r, const Pin& pin, CohortScope scope) noexcept {
  Parts parts = parts_of(r, pin, scope);
  if (parts.items == nullptr) return {};
  if (parts.count == 0) return kNoCohort;
  auto* out = static_cast<char*>(ngx_pnalloc(r->pool, shared::cohort_token_room(parts.items, parts.count)));
  if (out == nullptr) return {};
  return {out, shared::write_cohort_token(parts.items, parts.count, out)};
}

}  // namespace

std::string_view cohort_token(ngx_http_request_t* r, Pin* pin, CohortScope scope) noexcept {
  if (pin == nullptr || !pin->applied || pin->count == 0) return kNoCohort;
  if (scope == CohortScope::kOutward) return write_token(r, *pin, scope);
  if (pin->token_count != pin->count) {
    std::string_view token = write_token(r->main, *pin, scope);
    pin->token = token.data();
    pin->token_size = static_cast<std::uint16_t>(token.size());
    pin->token_count = pin->count;
  }
  return {pin->token, pin->token_size};
}

std::string_view assignments(ngx_http_request_t* r, const Pin* pin) noexcept {
  if (pin == nullptr || !pin->applied) return kNoAssignments;
  Parts parts = parts_of(r, *pin, CohortScope::kInward);
  if (parts.count == 0) return kNoAssignments;
  auto* out = static_cast<char*>(ngx_pnalloc(r->pool, shared::assignments_room(parts.items, parts.count)));
  if (out == nullptr) return kNoAssignments;
  return {out, shared::write_assignments(parts.items, parts.count, out)};
}

}  // namespace experiment::ngx
