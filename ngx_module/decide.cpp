#include "ngx_module/decide.h"

#include <algorithm>

#include "ngx_module/cookie_jar.h"
#include "ngx_module/visitor.h"
#include "ngx_module/worker.h"

namespace experiment::ngx {
namespace {

using bandit::Reason;

void enrol(Decision& decision, Reason reason, int arm) noexcept {
  const PlanExperiment& experiment = *decision.experiment;
  decision.arm = static_cast<std::uint8_t>(arm);
  bool dropped =
      arm >= static_cast<int>(experiment.arms.size()) || experiment.arms[static_cast<std::size_t>(arm)].variant.empty();
  bool killed = (experiment.block->mask.load(std::memory_order_relaxed) >> arm & 1) != 0;
  decision.reason = dropped ? Reason::kVariantGone : killed ? Reason::kKilled : reason;
  if (decision.enrolled()) decision.requests = experiment.requests[static_cast<std::size_t>(decision.row())];
}

// By the slot table, or in the baseline.
void draw_arm(const shared::Zone& zone, Decision& decision, std::uint64_t hash) noexcept {
  const PlanExperiment& experiment = *decision.experiment;
  shared::Zone::Pick pick{};
  if (!zone.pick(*experiment.block, bandit::arm_slot(experiment.rule, hash), pick)) {
    decision.reason = Reason::kZoneFull;
    return;
  }
  decision.baseline = bandit::in_baseline(experiment.rule, hash);
  if (decision.baseline) {
    enrol(decision, Reason::kBaseline, experiment.rule.control_arm);
  } else {
    enrol(decision, Reason::kSplit, pick.arm);
  }
  if (decision.enrolled()) decision.epoch = pick.epoch->id;
}

// Units with a cookie: what it says, or a fresh enrolment that it will remember.
void decide_with_memory(ngx_http_request_t* r, Pin& pin, Decision& decision, const UnitValue& unit,
                        Reason gate) noexcept {
  const PlanExperiment& experiment = *decision.experiment;
  const shared::CookieRecords* records = cookie_records(r, pin);
  if (records == nullptr) {
    decision.reason = Reason::kError;
  } else if (const auto* record = records->find(experiment.tag, shared::unit_tag(unit.hash))) {
    decision.baseline = record->baseline;
    enrol(decision, record->baseline ? Reason::kBaseline : Reason::kSticky, record->arm);
    bool known = pin.plan->zone.find_epoch(*experiment.block, record->epoch) != nullptr;
    if (known && decision.enrolled()) decision.epoch = record->epoch;
  } else if (gate == Reason::kFrozen) {
    decision.reason = Reason::kFrozen;
  } else if (pin.headers_out || !is_navigation(r, pin)) {
    decision.reason = Reason::kNoIdentity;
  } else {
    draw_arm(pin.plan->zone, decision, unit.hash);
    if (decision.enrolled() && !remember(pin, decision, unit)) {
      decision.reason = Reason::kCookieFull;
      decision.epoch = 0;
      decision.requests = nullptr;
    }
  }
  pin.remembers = pin.remembers || decision.epoch != 0;
}

// An adaptive experiment shows a unit that nothing remembers what the document's weights say, and does not count it.
void decide_by_weights(Decision& decision, std::uint64_t hash) noexcept {
  const PlanExperiment& experiment = *decision.experiment;
  int slot = bandit::arm_slot(experiment.rule, hash);
  auto end = std::upper_bound(experiment.weight_ends.begin(), experiment.weight_ends.end(), slot);
  enrol(decision, Reason::kNoMemory, static_cast<int>(end - experiment.weight_ends.begin()));
}

void decide_without_memory(Pin& pin, Decision& decision, std::uint64_t hash) noexcept {
  if (decision.experiment->adaptive) return decide_by_weights(decision, hash);
  draw_arm(pin.plan->zone, decision, hash);
  if (decision.epoch != 0) pin.will_expose(decision.experiment->identity, decision.epoch, hash);
}

void decide_unit(ngx_http_request_t* r, Pin& pin, Decision& decision) noexcept {
  const PlanExperiment& experiment = *decision.experiment;
  const UnitValue& unit = unit_of(r, pin, experiment.unit);
  if (unit.state != UnitValue::kPresent) {
    // Where ids are minted, this request could not be given one that lasts.
    bool minted = main_conf(r).units[static_cast<std::size_t>(experiment.unit)]->mint;
    decision.reason = minted ? Reason::kNoIdentity : Reason::kNoUnit;
    return;
  }
  Reason gate = bandit::gate(experiment.rule, unit.hash);
  if (gate == Reason::kSplit && !unit.memory) {
    decide_without_memory(pin, decision, unit.hash);
  } else if (gate == Reason::kConcluded) {
    enrol(decision, Reason::kConcluded, experiment.rule.winner_arm);
  } else if (unit.memory && (gate == Reason::kSplit || gate == Reason::kFrozen)) {
    decide_with_memory(r, pin, decision, unit, gate);
  } else {
    decision.reason = gate;
  }
}

// False: out of memory.
[[gnu::noinline]] bool grow(ngx_http_request_t* main, Pin& pin, std::size_t needed) noexcept {
  auto* grown = static_cast<Decision*>(ngx_palloc(main->pool, (needed + 1) * sizeof(Decision)));
  if (grown == nullptr) return false;
  std::copy(pin.decisions, pin.decisions + pin.count, grown);
  pin.decisions = grown;
  pin.capacity = static_cast<std::uint16_t>(needed);
  return true;
}

[[gnu::noinline]] void decide_one(ngx_http_request_t* r, Pin& pin, const Placed& placed, Decision& decision) noexcept {
  decision = {placed.experiment, 0, nullptr, placed.index, Reason::kKilled, 0, false, false};
  bool killed = (placed.block->mask.load(std::memory_order_acquire) & shared::kMaskExperiment) != 0;
  if (killed || pin.plan->zone.is_killed()) return;
  decision.applied = pin.applied = true;
  if (is_bot(r, pin)) {
    decision.reason = Reason::kBot;
  } else {
    decide_unit(r, pin, decision);
  }
}

// Whether the first `count` decisions are about other experiments.
bool is_new(const Pin& pin, std::uint16_t count, std::uint16_t index) noexcept {
  auto same = [&](const Decision& decision) { return decision.index == index; };
  return std::none_of(pin.decisions, pin.decisions + count, same);
}

// Behind decisions of an earlier location, or where nothing is usual.
[[gnu::noinline]] void decide_each(ngx_http_request_t* r, Pin& pin, const PlanPlacement& placement) noexcept {
  const std::uint16_t before = pin.count;
  std::size_t decided = before;
  for (const Placed& placed : placement.live) {
    if (is_new(pin, before, placed.index)) decide_one(r, pin, placed, pin.decisions[decided++]);
  }
  pin.set_count(decided);
}

// Where the request came from another location, or rewards made the pin.
[[gnu::noinline]] Pin* decide_more(ngx_http_request_t* r, Pin& pin) noexcept {
  pin.decided = loc_conf(r).placement;
  pin.next = &kNoDecision;
  const PlanPlacement& placed = pin.plan->placements[pin.decided->number];
  std::size_t needed = pin.count + placed.count;
  if (needed <= pin.capacity || grow(r, pin, needed)) decide_each(r, pin, placed);
  return &pin;
}

// What most requests with experiments spend their time on, so: plain experiments of which nothing is killed are decided
// without a call, as decide_one() would. Requires: there is room, and the placement's unit is present.
inline void decide_plain(ngx_http_request_t* r, Pin& pin, const PlanPlacement& placement) noexcept {
  const shared::Zone zone = pin.plan->zone;
  const std::uint64_t hash = pin.units()[placement.unit].hash;
  std::uint64_t exposures = 0;
  Decision* decision = pin.decisions;
  for (const Placed& placed : placement.live) {
    shared::Zone::Pick pick;
    if (placed.plain_mask->load(std::memory_order_acquire) == 0 &&
        zone.try_pick(*placed.block, bandit::slot(placed.arm_draws(hash)), pick) && pick.arm < placed.arms) {
      *decision++ = {placed.experiment,
                     pick.epoch->id,
                     placed.requests[pick.arm],
                     placed.index,
                     Reason::kSplit,
                     static_cast<std::uint8_t>(pick.arm),
                     false,
                     true};
      exposures = Pin::with_exposure(exposures, placed.identity, pick.epoch->id);
    } else {
      decide_one(r, pin, placed, *decision++);
    }
  }
  pin.set_count(static_cast<std::size_t>(decision - pin.decisions));
  if (exposures == 0) return;
  pin.applied = true;
  pin.will_expose(exposures, 0, hash);
}

}  // namespace

Pin* decide_here(ngx_http_request_t* r, Pin* pin) noexcept {
  if (pin != nullptr) return decide_more(r, *pin);
  Plan* plan = current_plan();
  if (plan == nullptr) return nullptr;
  const Placement* placement = loc_conf(r).placement;
  const PlanPlacement& placed = plan->placements[placement->number];
  if (placed.count == 0) {  // whatever a younger plan says, until another location is entered
    ngx_http_set_ctx(r, placement->nothing, ngx_http_experiment_module);
    return nullptr;
  }
  pin = make_pin(r, *plan, placed.count);
  if (pin == nullptr) return nullptr;
  pin->decided = placement;
  bool plain = placed.unit >= 0 && !plan->zone.is_killed() && !is_bot(r, *pin) &&
               unit_of(r, *pin, placed.unit).state == UnitValue::kPresent;
  if (plain) {
    decide_plain(r, *pin, placed);
  } else {
    decide_each(r, *pin, placed);
  }
  return pin;
}

void warn_subrequest(ngx_http_request_t* r, Pin& pin, int experiment) noexcept {
  const Placement* placement = loc_conf(r).placement;
  if (placement == nullptr || pin.warned_subrequest) return;
  for (const Placed& placed : pin.plan->placements[placement->number].live) {
    if (placed.index != experiment) continue;
    pin.warned_subrequest = true;
    ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                  "experiment: \"%s\" is placed in a subrequest only, so nobody is enrolled there; "
                  "place it where the main request is",
                  placed.experiment->key.c_str());
  }
}

}  // namespace experiment::ngx
