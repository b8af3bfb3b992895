#include "ngx_module/cookie_jar.h"

#include <algorithm>

#include "ngx_module/decide.h"
#include "ngx_module/header_list.h"
#include "ngx_module/worker.h"
#include "shared/base64url.h"

namespace experiment::ngx {
namespace {

using shared::CookieRecord;
using shared::CookieRecords;

bool disposable(const Pin& pin, const CookieRecord& record) noexcept {
  for (const auto& experiment : pin.plan->experiments) {
    if (experiment->tag != record.experiment || experiment->block == nullptr) continue;
    const auto* epoch = worker_zone().find_epoch(*experiment->block, record.epoch);
    return epoch == nullptr || epoch->state.load(std::memory_order_relaxed) == shared::EpochBlock::kSealed;
  }
  return true;
}

bool has_room(const shared::CookieRecords& records, const PlanExperiment& experiment) noexcept {
  std::size_t bytes = 18 + (experiment.has_total ? 20 : 16);
  for (int i = 0; i < records.count; ++i) bytes += records.items[static_cast<std::size_t>(i)].has_sum ? 20 : 16;
  return records.count < shared::kMaxCookieRecords && shared::base64url_length(bytes) <= shared::kMaxCookieChars;
}

// Takes the oldest record out that no reward can reach any more. False: there is none.
bool make_room(Pin& pin) noexcept {
  auto& records = *pin.records;
  CookieRecord* oldest = nullptr;
  for (int i = 0; i < records.count; ++i) {
    auto& record = records.items[static_cast<std::size_t>(i)];
    if (!disposable(pin, record)) continue;
    if (oldest == nullptr || record.first_exposure_10min < oldest->first_exposure_10min) oldest = &record;
  }
  if (oldest == nullptr) return false;
  std::copy(oldest + 1, records.items.data() + records.count, oldest);
  --records.count;
  pin.cookie_changed = true;
  return true;
}

char* put(char* out, std::string_view text) noexcept {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

bool push_cookie(ngx_http_request_t* r, Pin& pin, const CookieName& name, std::string_view value) noexcept {
  const CookieConf& conf = *loc_conf(r).cookie;
  bool https = is_https(r, pin);
  const std::string& spelling = https ? name.https : name.http;
  if (!https && name.https != name.http) warn_plain_cookie(r, name);
  auto* out = static_cast<char*>(ngx_pnalloc(r->pool, spelling.size() + value.size() + conf.domain.size() + 128));
  if (out == nullptr) return false;
  char* end = put(put(put(out, spelling), "="), value);
  u_char* after = ngx_sprintf(reinterpret_cast<u_char*>(end),
                              "; Path=/; Max-Age=%L; HttpOnly; SameSite=", static_cast<int64_t>(conf.max_age_s));
  end = put(reinterpret_cast<char*>(after), conf.same_site);
  if (!conf.domain.empty()) end = put(put(end, "; Domain="), conf.domain);
  if (https) end = put(end, "; Secure");
  return push_outbound(r, "Set-Cookie", {out, static_cast<std::size_t>(end - out)}) != nullptr;
}

bool push_units(ngx_http_request_t* r, Pin& pin) noexcept {
  const MainConf& conf = main_conf(r);
  bool any = false;
  for (std::size_t u = 0; u < conf.units.size(); ++u) {
    const UnitValue& unit = pin.units()[u];
    if (unit.state != UnitValue::kPresent || !unit.minted) continue;
    any = push_cookie(r, pin, *conf.units[u]->minted(), unit.id()) || any;
    worker_counters().units_minted.fetch_add(1, std::memory_order_relaxed);
  }
  return any;
}

}  // namespace

bool remember(Pin& pin, const Decision& decision, const UnitValue& unit) noexcept {
  const PlanExperiment& experiment = *decision.experiment;
  auto& records = *pin.records;
  // Another unit's record of this experiment goes: a login on a shared browser inherits nothing.
  auto* end = records.items.data() + records.count;
  auto* place =
      std::find_if(records.items.data(), end, [&](const auto& known) { return known.experiment == experiment.tag; });
  if (place == end) {
    if (!has_room(records, experiment) && !make_room(pin)) return false;
    place = &records.items[records.count++];
  }
  *place = {};
  place->experiment = experiment.tag;
  place->unit_tag = shared::unit_tag(unit.hash);
  place->arm = decision.arm;
  place->baseline = decision.baseline;
  place->has_sum = experiment.has_total;
  place->epoch = decision.epoch;
  place->first_exposure_10min = shared::ten_minutes(ngx_time());
  pin.cookie_changed = true;
  return true;
}

CookieRecord* record_of(ngx_http_request_t* r, Pin& pin, const PlanExperiment& experiment) noexcept {
  const UnitValue& unit = unit_of(r, pin, experiment.unit);
  if (unit.state != UnitValue::kPresent || !unit.memory) return nullptr;
  CookieRecords* records = cookie_records(r, pin);
  return records == nullptr ? nullptr : records->find(experiment.tag, shared::unit_tag(unit.hash));
}

bool set_cookies(ngx_http_request_t* r, Pin& pin) noexcept {
  bool any = pin.minted && push_units(r, pin);
  if (!pin.cookie_changed) return any;
  pin.cookie_changed = false;
  char text[shared::kMaxCookieChars];
  std::size_t length = shared::encode(*pin.records, worker_keys(), text);
  return (length != 0 && push_cookie(r, pin, loc_conf(r).cookie->name, {text, length})) || any;
}

}  // namespace experiment::ngx
