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

// The value of Experiment-Served, taken out of the answer; data is nullptr where it is absent.
std::string_view take_served(ngx_http_request_t* r) noexcept {
  std::string_view served;
  for (Headers h(r->headers_out.headers); h; h.next()) {
    if (h->hash == 0 || !is_named(*h, "experiment-served")) continue;
    served = view(h->value);
    h->hash = 0;
  }
  return served;
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

void count(ngx_http_request_t* r, Pin& pin, const Decision& decision) noexcept {
  const PlanExperiment& experiment = experiment_of(pin, decision);
  shared::EpochBlock* epoch = worker_zone().find_epoch(*experiment.block, decision.epoch);
  if (epoch == nullptr || epoch->state.load(std::memory_order_acquire) != shared::EpochBlock::kOpen) return;
  if (decision.arm >= epoch->arms) return;
  const UnitValue& unit = unit_of(r, pin, experiment.unit);
  shared::CookieRecord* record = record_of(r, pin, experiment);
  if (record != nullptr && (record->marks & shared::kMarkExposed) != 0) return;
  std::uint64_t identity = unit.memory ? experiment.identity : shared::epoch_identity(experiment.identity, epoch->id);
  bool seen = worker_zone().filter().test_and_set(shared::unit_event_key(identity, unit.hash, -1));
  if (record != nullptr) {
    record->marks |= shared::kMarkExposed;
    pin.cookie_changed = true;
    // The windows of its goals run from here: a prefetch may have pinned it long ago.
    if (!seen) record->first_exposure_10min = shared::ten_minutes(ngx_time());
  }
  if (seen) return;
  if (auto* row = experiment.requests[static_cast<std::size_t>(decision.row())]) {
    row->exposures.fetch_add(1, std::memory_order_relaxed);
  }
  epoch->counters[decision.row() * epoch->columns].fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

void count_exposures(ngx_http_request_t* r, Pin& pin) noexcept {
  std::string_view served = take_served(r);
  if (pin.count == 0 || (r->method != NGX_HTTP_GET && r->method != NGX_HTTP_POST)) return;
  LocConf& conf = loc_conf(r);
  bool page = false, asked = false;
  for (const Decision& decision : pin.all()) {
    if (!decision.enrolled() || decision.epoch == 0) continue;
    if (!asked) {
      page = is_page(r, pin, conf) && !is_prefetch(r, pin) && switched_on(r, conf);
      asked = true;
    }
    if (!page) return;
    const PlanExperiment& experiment = experiment_of(pin, decision);
    if (served.data() != nullptr && !experiment.edge &&
        !served_it(served, experiment.key, experiment.variants[decision.arm])) {
      continue;
    }
    count(r, pin, decision);
  }
}

}  // namespace experiment::ngx
