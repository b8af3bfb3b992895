#include "ngx_module/exposure.h"

#include <algorithm>

#include "ngx_module/cookie_jar.h"
#include "ngx_module/decide.h"
#include "ngx_module/header_list.h"
#include "ngx_module/visitor.h"
#include "ngx_module/worker.h"
#include "shared/filter_key.h"

namespace experiment::ngx {
namespace {

bool switched_on(ngx_http_request_t* r, const LocConf& conf) noexcept {
  if (conf.exposure == nullptr) return true;
  ngx_str_t value;
  if (ngx_http_complex_value(r, conf.exposure, &value) != NGX_OK) return false;
  return value.len != 0 && view(value) != "0" && view(value) != "off";
}

// Whatever its status: an arm that fails must not lose its exposures. A 304 to a navigation stands for its page; a 204
// shows nothing.
bool is_page(ngx_http_request_t* r, Pin& pin, LocConf& conf) noexcept {
  if (r->headers_out.status == NGX_HTTP_NO_CONTENT) return false;
  if (r->headers_out.status == NGX_HTTP_NOT_MODIFIED) return is_navigation(r, pin);
  return ngx_http_test_content_type(r, &conf.types) != nullptr;
}

// Whether the dictionary `served` names this variant for this experiment: "key=variant", parameters left aside.
bool served_it(std::string_view served, std::string_view key, std::string_view variant) noexcept {
  while (!served.empty()) {
    std::size_t end = served.find(',');
    std::string_view member = served.substr(0, end);
    served.remove_prefix(end == served.npos ? served.size() : end + 1);
    member.remove_prefix(std::min(member.size(), member.find_first_not_of(" \t")));
    member = member.substr(0, member.find_first_of("; \t"));
    if (member.size() == key.size() + 1 + variant.size() && member.substr(0, key.size()) == key &&
        member[key.size()] == '=' && member.substr(key.size() + 1) == variant) {
      return true;
    }
  }
  return false;
}

// nullptr: the epoch is over.
shared::EpochBlock* open_epoch(const Pin& pin, const Decision& decision) noexcept {
  shared::EpochBlock* epoch = pin.plan->zone.find_epoch(*decision.experiment->block, decision.epoch);
  bool open = epoch != nullptr && epoch->state.load(std::memory_order_acquire) == shared::EpochBlock::kOpen;
  return open && decision.arm < epoch->arms ? epoch : nullptr;
}

void count(const Decision& decision, shared::EpochBlock& epoch) noexcept {
  if (decision.requests != nullptr) decision.requests->exposures.fetch_add(1, std::memory_order_relaxed);
  epoch.counters[decision.row() * epoch.columns].fetch_add(1, std::memory_order_relaxed);
}

bool is_marked(const Pin& pin, std::uint64_t identity, std::uint64_t unit_hash) noexcept {
  return pin.plan->zone.filter().test_and_set(shared::unit_event_key(identity, unit_hash, -1));
}

// The cookie remembers.
void count_with_memory(ngx_http_request_t* r, Pin& pin, const Decision& decision, const UnitValue& unit) noexcept {
  shared::EpochBlock* epoch = open_epoch(pin, decision);
  if (epoch == nullptr) return;
  shared::CookieRecord* record = record_of(r, pin, *decision.experiment);
  if (record != nullptr && (record->marks & shared::kMarkExposed) != 0) return;
  bool seen = is_marked(pin, decision.experiment->identity, unit.hash);
  if (record != nullptr) {
    record->marks |= shared::kMarkExposed;
    pin.cookie_changed = true;
    // The windows of its goals run from here: a prefetch may have pinned it long ago.
    if (!seen) record->first_exposure_10min = shared::ten_minutes(ngx_time());
  }
  if (!seen) count(decision, *epoch);
}

// The filter remembers.
void count_without_memory(const Pin& pin, const Decision& decision, const UnitValue& unit) noexcept {
  shared::EpochBlock* epoch = open_epoch(pin, decision);
  if (epoch == nullptr) return;
  std::uint64_t identity = shared::epoch_identity(decision.experiment->identity, decision.epoch);
  if (!is_marked(pin, identity, unit.hash)) count(decision, *epoch);
}

bool is_counted(ngx_http_request_t* r, Pin& pin) noexcept {
  if (r->method != NGX_HTTP_GET && r->method != NGX_HTTP_POST) return false;
  LocConf& conf = loc_conf(r);
  return is_page(r, pin, conf) && !is_prefetch(r, pin) && switched_on(r, conf);
}

}  // namespace

void count_unmarked(ngx_http_request_t* r, Pin& pin, std::string_view served) noexcept {
  if (!is_counted(r, pin)) return;
  const std::uint64_t rotations = pin.plan->zone.filter().rotations();  // before anything is marked
  for (const Decision& decision : pin.all()) {
    if (!decision.enrolled() || decision.epoch == 0) continue;
    const PlanExperiment& experiment = *decision.experiment;
    if (served.data() != nullptr && !experiment.edge &&
        !served_it(served, experiment.key, experiment.arms[decision.arm].variant)) {
      continue;
    }
    const UnitValue& unit = pin.units()[experiment.unit];  // read, since the decision was made for it
    if (unit.memory) {
      count_with_memory(r, pin, decision, unit);
    } else {
      count_without_memory(pin, decision, unit);
    }
  }
  if (served.data() == nullptr) pin.plan->recent->exposures.add(pin.exposures, rotations);
}

}  // namespace experiment::ngx
