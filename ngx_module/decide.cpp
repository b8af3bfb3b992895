#include "ngx_module/decide.h"

#include <algorithm>

#include "ngx_module/cookie_jar.h"
#include "ngx_module/visitor.h"
#include "ngx_module/worker.h"

namespace experiment::ngx {
namespace {

using bandit::Desired;
using bandit::Reason;

// States in which everyone sees the same page: nothing applies, nothing is isolated. kSplit: the experiment is on.
Reason state_of(const Pin& pin, int index, const PlanExperiment& experiment) noexcept {
  if (experiment.off != Reason::kSplit) return experiment.off;
  if (pin.plan->capped[static_cast<std::size_t>(index)] != 0) return Reason::kCohortCap;
  if (worker_zone().header().kill_all.load(std::memory_order_acquire) != 0) return Reason::kKilled;
  if ((experiment.block->mask.load(std::memory_order_acquire) & shared::kMaskExperiment) != 0) return Reason::kKilled;
  if (experiment.rule.desired == Desired::kDraft) return Reason::kDraft;
  if (!experiment.active()) return Reason::kStopped;
  return Reason::kSplit;
}

void enrol(Decision& decision, const PlanExperiment& experiment, Reason reason, int arm) noexcept {
  decision.arm = static_cast<std::uint8_t>(arm);
  bool dropped =
      arm >= static_cast<int>(experiment.variants.size()) || experiment.variants[static_cast<std::size_t>(arm)].empty();
  bool killed = (experiment.block->mask.load(std::memory_order_relaxed) >> arm & 1) != 0;
  decision.reason = dropped ? Reason::kVariantGone : killed ? Reason::kKilled : reason;
}

// Requires: `epoch` was just found. It is not kept: its block may be gone before a slow answer comes.
void count_in(Decision& decision, const shared::EpochBlock* epoch, std::uint64_t id) noexcept {
  if (epoch == nullptr || !decision.enrolled()) return;
  decision.epoch = id;
  decision.slots = decision.baseline ? bandit::kSlots : epoch->quotas[decision.arm];
}

// By the slot table, or in the baseline.
void draw_arm(Decision& decision, const PlanExperiment& experiment, std::uint64_t hash) noexcept {
  shared::Zone::Pick pick{};
  if (!worker_zone().pick(*experiment.block, bandit::arm_slot(experiment.rule, hash), pick)) {
    decision.reason = Reason::kZoneFull;
    return;
  }
  decision.baseline = bandit::in_baseline(experiment.rule, hash);
  if (decision.baseline) {
    enrol(decision, experiment, Reason::kBaseline, experiment.rule.control_arm);
  } else {
    enrol(decision, experiment, Reason::kSplit, pick.arm);
  }
  count_in(decision, pick.epoch, pick.epoch->id);
}

// Units with a cookie: what it says, or a fresh enrolment that it will remember.
void decide_with_memory(ngx_http_request_t* r, Pin& pin, Decision& decision, const PlanExperiment& experiment,
                        const UnitValue& unit, Reason gate) noexcept {
  ensure_cookie(r, pin);
  if (const auto* record = pin.records.find(experiment.tag, shared::unit_tag(unit.hash))) {
    decision.baseline = record->baseline;
    enrol(decision, experiment, record->baseline ? Reason::kBaseline : Reason::kSticky, record->arm);
    count_in(decision, worker_zone().find_epoch(*experiment.block, record->epoch), record->epoch);
  } else if (gate == Reason::kFrozen) {
    decision.reason = Reason::kFrozen;
  } else if (pin.headers_out || !is_navigation(r, pin)) {
    decision.reason = Reason::kNoIdentity;
  } else {
    draw_arm(decision, experiment, unit.hash);
    if (!decision.enrolled() || remember(pin, experiment, decision, unit)) return;
    decision.reason = Reason::kCookieFull;
    decision.epoch = 0;
  }
}

void decide_without_memory(Decision& decision, const PlanExperiment& experiment, std::uint64_t hash,
                           Reason gate) noexcept {
  if (gate == Reason::kFrozen) {
    decision.reason = Reason::kFrozen;
  } else if (!experiment.adaptive) {
    draw_arm(decision, experiment, hash);
  } else {
    int slot = bandit::arm_slot(experiment.rule, hash);
    auto end = std::upper_bound(experiment.weight_ends.begin(), experiment.weight_ends.end(), slot);
    enrol(decision, experiment, Reason::kNoMemory, static_cast<int>(end - experiment.weight_ends.begin()));
  }
}

void decide(ngx_http_request_t* r, Pin& pin, Decision& decision) noexcept {
  const PlanExperiment& experiment = experiment_of(pin, decision);
  decision.reason = state_of(pin, decision.experiment, experiment);
  if (decision.reason != Reason::kSplit) return;
  decision.applied = true;
  if (is_bot(r, pin)) {
    decision.reason = Reason::kBot;
    return;
  }
  const UnitValue& unit = unit_of(r, pin, experiment.unit);
  if (unit.state != UnitValue::kPresent) {
    // Where ids are minted, this request could not be given one that lasts.
    bool minted = main_conf(r).units[static_cast<std::size_t>(experiment.unit)]->mint;
    decision.reason = minted ? Reason::kNoIdentity : Reason::kNoUnit;
    return;
  }
  Reason gate = bandit::gate(experiment.rule, unit.hash);
  if (gate == Reason::kConcluded) {
    enrol(decision, experiment, Reason::kConcluded, experiment.rule.winner_arm);
  } else if (gate != Reason::kSplit && gate != Reason::kFrozen) {
    decision.reason = gate;
  } else if (unit.memory) {
    decide_with_memory(r, pin, decision, experiment, unit, gate);
  } else {
    decide_without_memory(decision, experiment, unit.hash, gate);
  }
}

Decision* add(ngx_http_request_t* main, Pin& pin, std::size_t at_least) noexcept {
  if (pin.count == pin.capacity) {
    auto capacity = static_cast<std::uint16_t>(std::max<std::size_t>(at_least, pin.capacity * 2U));
    auto* grown = static_cast<Decision*>(ngx_palloc(main->pool, capacity * sizeof(Decision)));
    if (grown == nullptr) return nullptr;
    std::copy(pin.decisions, pin.decisions + pin.count, grown);
    pin.decisions = grown;
    pin.capacity = capacity;
  }
  return &(pin.decisions[pin.count++] = Decision{});
}

}  // namespace

Pin* ensure_decisions(ngx_http_request_t* r) noexcept {
  Pin* pin = ensure_pin(r);
  if (pin == nullptr || r != r->main) return pin;
  const Placement* placement = loc_conf(r).placement;
  if (placement == nullptr || placement == pin->decided) return pin;
  pin->decided = placement;
  const auto& placed = pin->plan->placements[placement->number];
  for (std::uint16_t index : placed) {
    if (pin->count != 0 && pin->find(index) != nullptr) continue;
    Decision* decision = add(r, *pin, placed.size());
    if (decision == nullptr) return pin;
    decision->experiment = index;
    decide(r, *pin, *decision);
  }
  return pin;
}

const Decision* ensure_decision(ngx_http_request_t* r, int experiment) noexcept {
  Pin* pin = ensure_decisions(r);
  if (pin == nullptr) return nullptr;
  Decision* decision = pin->find(experiment);
  if (decision == nullptr && r != r->main && loc_conf(r).placement != nullptr && !pin->warned_subrequest) {
    const auto& placed = pin->plan->placements[loc_conf(r).placement->number];
    if (std::find(placed.begin(), placed.end(), experiment) != placed.end()) {
      pin->warned_subrequest = true;
      ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                    "experiment: \"%s\" is placed in a subrequest only, so nobody is enrolled there; "
                    "place it where the main request is",
                    pin->plan->experiments[static_cast<std::size_t>(experiment)]->key.c_str());
    }
  }
  return decision;
}

}  // namespace experiment::ngx
