// What a request knows of its experiments: the plan it began with, its units, its cookie's records, each decision once
// made.
//
// One Pin per main request, in its pool; subrequests look at the main request's. Made lazily by whoever needs it first,
// found again after internal redirects (which zero r->ctx) by its pool cleanup. Trivially destructible but for the plan
// it holds on to.
#pragma once

#include <type_traits>

#include "bandit/assignment.h"
#include "ngx_module/conf.h"
#include "ngx_module/plan.h"
#include "shared/assignment_cookie.h"

namespace experiment::ngx {

struct UnitValue {
  enum State : std::uint8_t { kUnread, kNone, kPresent };
  State state = kUnread;
  bool memory = false;  // came from a cookie= source, minted or not
  bool minted = false;  // in this request
  std::uint64_t hash = 0;
  std::string_view id;  // in the request's headers or its pool
};

// An experiment's decision in this request. It "applied" when other units may see something else at this place: then it
// takes part in isolation and counts. Decisions that are the same for everyone (draft, stopped, killed, off) are kept
// for their reason only.
struct Decision {
  std::uint16_t experiment = 0;  // index into Plan::experiments
  bandit::Reason reason = bandit::Reason::kUnknown;
  std::uint8_t arm = 0;
  bool baseline = false;
  bool applied = false;
  std::uint64_t epoch =
      0;  // id of the one that its exposure counts in; 0: not counted. A slow answer may outlive the epoch's block
  std::uint16_t slots = 0;  // of its arm in that epoch: its propensity
  bool enrolled() const noexcept { return bandit::is_enrolled(reason); }
  int row() const noexcept { return baseline ? 0 : 1 + arm; }
};

// A conditional header of the client.
struct Condition {
  ngx_str_t asked = {};  // as it came; no data: none seen yet
  ngx_str_t kept = {};   // its tags that were made for this cohort, to be compared with what we send
};

enum class Answer : std::uint8_t { kUnread, kNo, kYes };

struct Pin {
  Plan* plan = nullptr;
  UnitValue* units = nullptr;  // by MainConf::units
  Decision* decisions = nullptr;
  std::uint16_t count = 0, capacity = 0;
  const Placement* decided = nullptr;  // the location's list that was gone through last: not again for every variable
  bool cookie_read = false;
  bool cookie_changed = false;
  bool headers_out = false;  // our filter has run: too late to set a cookie
  bool cookie_sent = false;  // Set-Cookie was added
  bool warned_subrequest = false;
  Answer bot = Answer::kUnread, navigation = Answer::kUnread, prefetch = Answer::kUnread, https = Answer::kUnread;
  ngx_table_elt_t* assignments = nullptr;  // our elements of the inbound header list
  ngx_table_elt_t* cohort = nullptr;
  Condition if_none_match, if_range, if_match;
  shared::CookieRecords records;

  Decision* find(int experiment) noexcept {
    for (int i = 0; i < count; ++i) {
      if (decisions[i].experiment == experiment) return &decisions[i];
    }
    return nullptr;
  }
  Range<Decision> all() const noexcept { return {decisions, decisions + count}; }
};
static_assert(std::is_trivially_destructible_v<Pin>);

// The main request's pin. ensure_pin() makes it; nullptr: no plan yet, or out of memory.
Pin* find_pin(ngx_http_request_t* r) noexcept;
Pin* ensure_pin(ngx_http_request_t* r) noexcept;

// The unit's value in this request, minted where nothing is found and its declaration says so.
UnitValue& unit_of(ngx_http_request_t* r, Pin& pin, int unit) noexcept;
// The cookie's records, read at first need. Call before looking at pin.records.
void ensure_cookie(ngx_http_request_t* r, Pin& pin) noexcept;
// An indexed variable's value; empty when it has none.
std::string_view indexed(ngx_http_request_t* r, ngx_int_t index) noexcept;
// A cookie's value under its exact spelling for the scheme of this request.
std::string_view cookie_value(ngx_http_request_t* r, Pin& pin, const CookieName& name) noexcept;
// Whether cookies of this request carry Secure and the __Host- prefix.
bool is_https(ngx_http_request_t* r, Pin& pin) noexcept;

}  // namespace experiment::ngx
