#include "ngx_module/reward.h"

#include <algorithm>

#include "ngx_module/cookie_jar.h"
#include "ngx_module/decide.h"
#include "ngx_module/header_list.h"
#include "ngx_module/visitor.h"
#include "ngx_module/worker.h"
#include "shared/filter_key.h"
#include "shared/money.h"
#include "shared/structured_field.h"

namespace experiment::ngx {
namespace {

using bandit::GoalKind;
using bandit::Reason;
using bandit::ValuePer;
using shared::Counter;

void bump(Counter& counter) noexcept {
  counter.fetch_add(1, std::memory_order_relaxed);
}

// Where a unit's reward of one experiment goes: epoch and row of its exposure, and its cookie's record if it has one.
struct Credit {
  shared::EpochBlock* epoch = nullptr;
  int row = 0;
  shared::CookieRecord* record = nullptr;
  std::uint64_t identity = 0;  // of its events in the rotating filter
};

// Whether the arm takes no part any more: killed units are not enrolled and not counted.
bool is_masked(const PlanExperiment& experiment, int arm) noexcept {
  std::uint32_t mask = experiment.block->mask.load(std::memory_order_acquire);
  return (mask & shared::kMaskExperiment) != 0 || (mask >> arm & 1) != 0 ||
         worker_zone().header().kill_all.load(std::memory_order_acquire) != 0;
}

bool credit_by_cookie(const PlanExperiment& experiment, const PlanGoal& goal, shared::CookieRecord& record,
                      Credit& credit) noexcept {
  if ((record.marks & shared::kMarkExposed) == 0 || is_masked(experiment, record.arm)) {
    bump(experiment.counters->rewards_unexposed);
    return false;
  }
  std::int64_t age_s = ngx_time() - static_cast<std::int64_t>(record.first_exposure_10min) * 600;
  credit.epoch = worker_zone().find_epoch(*experiment.block, record.epoch);
  credit.row = record.baseline ? 0 : 1 + record.arm;
  credit.record = &record;
  credit.identity = experiment.identity;
  bool open =
      credit.epoch != nullptr && credit.epoch->state.load(std::memory_order_acquire) == shared::EpochBlock::kOpen;
  // The cookie keeps the exposure's time in steps of ten minutes, rounded down: within the window means within its last
  // step.
  if (!open || age_s > static_cast<std::int64_t>(goal.window_s) + 600 || credit.row > credit.epoch->arms) {
    bump(experiment.counters->rewards_late);
    return false;
  }
  return true;
}

// Units without memory in a fixed experiment: the assignment is derived again, and the filter knows whether this epoch
// counted it.
bool credit_by_hash(const PlanExperiment& experiment, const UnitValue& unit, Credit& credit) noexcept {
  shared::Zone::Pick pick{};
  bool exposed =
      !experiment.adaptive && worker_zone().pick(*experiment.block, bandit::arm_slot(experiment.rule, unit.hash), pick);
  if (exposed) {
    credit.identity = shared::epoch_identity(experiment.identity, pick.epoch->id);
    exposed = worker_zone().filter().test(shared::unit_event_key(credit.identity, unit.hash, -1));
  }
  bool baseline = exposed && bandit::in_baseline(experiment.rule, unit.hash);
  if (!exposed || is_masked(experiment, baseline ? experiment.rule.control_arm : pick.arm)) {
    bump(experiment.counters->rewards_unexposed);
    return false;
  }
  credit.epoch = pick.epoch;
  credit.row = baseline ? 0 : 1 + pick.arm;
  return true;
}

// Returns: what of the amount was within the goal's max.
std::uint64_t add_value(const PlanGoal& goal, Credit& credit, Counter* cell, std::uint64_t amount) noexcept {
  std::uint64_t before = 0;
  if (goal.per == ValuePer::kTotal) before = std::min<std::uint64_t>(credit.record->sum, goal.max);
  std::uint64_t x = std::min(amount, goal.max - before);
  cell[1].fetch_add(x, std::memory_order_relaxed);
  cell[2].fetch_add(shared::square_steps(before, x, goal.max), std::memory_order_relaxed);
  if (goal.per == ValuePer::kTotal) credit.record->sum = static_cast<std::uint32_t>(before + x);
  return x;
}

void count_in(ngx_http_request_t* r, Pin& pin, const PlanExperiment& experiment, const PlanGoal& goal,
              const Reward& reward) noexcept {
  if (experiment.block == nullptr || experiment.rule.desired == bandit::Desired::kDraft) return;
  UnitValue& unit = unit_of(r, pin, experiment.unit);
  if (unit.state != UnitValue::kPresent) return bump(experiment.counters->rewards_unexposed);
  Credit credit;
  if (auto* record = record_of(r, pin, experiment)) {
    if (!credit_by_cookie(experiment, goal, *record, credit)) return;
  } else if (unit.memory) {
    return bump(experiment.counters->rewards_unexposed);
  } else if (!credit_by_hash(experiment, unit, credit)) {
    return;
  }
  bool total = goal.kind == GoalKind::kValue && goal.per == ValuePer::kTotal;
  if (total && (credit.record == nullptr || !credit.record->has_sum))
    return bump(experiment.counters->rewards_unexposed);
  if (goal.number >= credit.epoch->goals) return bump(experiment.counters->rewards_late);  // younger than the epoch
  std::uint64_t amount = 0;
  if (goal.kind == GoalKind::kValue) {
    auto parsed = shared::parse_amount(reward.value, goal.scale);
    if (!parsed) return bump(experiment.counters->rewards_refused);
    amount = *parsed;
  }

  auto filter = worker_zone().filter();
  std::uint8_t mark = shared::mark_of_goal(goal.number);
  bool marked = credit.record != nullptr && (credit.record->marks & mark) != 0;
  if (!total && marked) return bump(experiment.counters->rewards_duplicate);
  if (!reward.id.empty() && filter.test_and_set(shared::reward_id_key(experiment.identity, goal.number, reward.id))) {
    return bump(experiment.counters->rewards_duplicate);
  }
  bool first = !filter.test_and_set(shared::unit_event_key(credit.identity, unit.hash, goal.number)) && !marked;
  if (!total && !first) return bump(experiment.counters->rewards_duplicate);

  Counter* cell = &credit.epoch->counters[credit.row * credit.epoch->columns + goal.column];
  if (first) bump(cell[0]);
  if (goal.kind == GoalKind::kValue) amount = add_value(goal, credit, cell, amount);
  if (auto* row = experiment.requests[static_cast<std::size_t>(credit.row)]) {
    auto number = static_cast<std::size_t>(goal.number);
    if (first) bump(row->rewards[number]);
    row->reward_value[number].fetch_add(amount, std::memory_order_relaxed);
  }
  if (credit.record != nullptr) {
    credit.record->marks |= mark;
    pin.cookie_changed = true;
  }
}

std::string_view evaluate(ngx_http_request_t* r, ngx_http_complex_value_t* value) noexcept {
  ngx_str_t text = ngx_null_string;
  if (value == nullptr || ngx_http_complex_value(r, value, &text) != NGX_OK) return {};
  return view(text);
}

}  // namespace

bool count_reward(ngx_http_request_t* r, Pin& pin, const Reward& reward) noexcept {
  const auto* uses = pin.plan->find_goal(reward.goal);
  if (uses == nullptr) {
    bump(worker_counters().rewards_unknown);
    return false;
  }
  for (const GoalUse& use : *uses) {
    const PlanExperiment& experiment = *pin.plan->experiments[use.experiment];
    count_in(r, pin, experiment, experiment.goals[use.goal], reward);
  }
  return true;
}

void count_location_rewards(ngx_http_request_t* r, Pin& pin) noexcept {
  const LocConf& conf = loc_conf(r);
  if (conf.rewards == nullptr || r->headers_out.status < 200 || r->headers_out.status >= 400) return;
  // Nobody has reached what was only fetched ahead, asked about or crawled.
  if (r->method == NGX_HTTP_HEAD || is_prefetch(r, pin) || is_bot(r, pin)) return;
  for (const RewardRule& rule : *conf.rewards) {
    // A stored answer carries the value and the id of the visitor it was made for.
    if (r->cached && (rule.value != nullptr || rule.id != nullptr)) {
      bump(worker_counters().rewards_replayed);
      continue;
    }
    count_reward(r, pin, {rule.goal, evaluate(r, rule.value), evaluate(r, rule.id)});
  }
}

void harvest(ngx_http_request_t* r, Pin* pin) noexcept {
  for (Headers h(r->headers_out.headers); h; h.next()) {
    if (h->hash == 0 || !is_named(*h, "experiment-reward")) continue;
    h->hash = 0;
    if (r->upstream == nullptr) continue;  // somebody's add_header
    if (r->cached) {
      bump(worker_counters().rewards_replayed);
      continue;
    }
    if (r->upstream->cacheable) {
      r->upstream->cacheable = 0;
      bump(worker_counters().not_stored);
    }
    if (pin == nullptr) continue;
    shared::DictionaryReader members(view(h->value));
    while (auto member = members.next()) count_reward(r, *pin, {member->key, member->value, member->id});
  }
}

}  // namespace experiment::ngx
