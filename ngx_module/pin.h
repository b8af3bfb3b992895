// What a request knows of its experiments: the plan it began with, its units, its cookie's records, each decision once
// made.
//
// One Pin per main request, in its pool; subrequests look at the main request's. Made lazily by whoever needs it first,
// found again after internal redirects (which zero r->ctx) by its pool cleanup. Trivially destructible but for the plan
// it holds on to. Small, since every request with an experiment makes one: what few requests need hangs from pointers.
#pragma once

#include <new>
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
  std::uint16_t size;   // of the id; this and the rest where it is present
  const char* text;     // in the request's headers or its pool
  std::uint64_t hash;
  bool without_memory() const noexcept { return state == kPresent && !memory; }
  std::string_view id() const noexcept { return {text, size}; }
};

// An experiment's decision in this request. It "applied" when other units may see something else at this place: then it
// takes part in isolation and counts. A decision that is the same for everyone (all of it killed) is kept for its
// reason only.
struct Decision {
  const PlanExperiment* experiment;
  std::uint64_t
      epoch;  // id of the one that its exposure counts in; 0: not counted. A slow answer may outlive its block
  shared::RequestCounters* requests;  // of its row; nullptr: not enrolled, or the zone is full
  std::uint16_t index;                // of the experiment in the plan
  bandit::Reason reason;
  std::uint8_t arm;
  bool baseline;
  bool applied;
  bool enrolled() const noexcept { return bandit::is_enrolled(reason); }
  int row() const noexcept { return baseline ? 0 : 1 + arm; }
};

inline constexpr std::uint16_t kNoExperiment = 0xffff;
// What stands behind the last decision.
inline constexpr Decision kNoDecision{nullptr, 0, nullptr, kNoExperiment, bandit::Reason::kUnknown, 0, false, false};

// A conditional header of the client.
struct Condition {
  ngx_str_t asked = {};  // as it came; no data: none seen yet
  ngx_str_t kept = {};   // its tags that were made for this cohort, to be compared with what we send
};
struct Conditions {
  Condition if_none_match, if_range, if_match;
};

enum class Answer : std::uint8_t { kUnread, kNo, kYes };

struct Pin {
  Plan* plan = nullptr;
  ngx_http_request_t* request = nullptr;  // the main one
  ngx_pool_cleanup_t cleanup = {};        // counts the request and lets go of the plan
  const Placement* decided = nullptr;   // the location's list that was gone through last: not again for every variable
  Decision* decisions = nullptr;        // in memory of capacity + 1
  const Decision* next = &kNoDecision;  // the one behind that which was found last; kNoExperiment: none
  std::uint64_t exposures = 0;          // names those that the filter remembers: units, experiments, epochs; 0: none
  shared::CookieRecords* records = nullptr;  // of the cookie; nullptr: none was read and none was made
  Conditions* conditions = nullptr;          // nullptr: the client sent none
  const char* token = nullptr;               // the inward one, of the first `token_count` decisions
  std::uint16_t token_size = 0, token_count = 0;
  std::uint16_t count = 0, capacity = 0;  // of decisions
  bool applied = false;                   // one of the decisions did
  bool remembers = false;                 // one of them is in the cookie, or will be
  bool cookie_read = false;               // if there was memory for it
  bool cookie_changed = false;
  bool headers_out = false;  // our filter has run: too late to set a cookie
  bool cookie_sent = false;  // Set-Cookie was added
  bool minted = false;       // an id, for one of the units
  bool warned_subrequest = false;
  Answer bot = Answer::kUnread, navigation = Answer::kUnread, prefetch = Answer::kUnread, https = Answer::kUnread;

  // By MainConf::units; behind the pin in its memory.
  UnitValue* units() noexcept { return reinterpret_cast<UnitValue*>(this + 1); }
  // The decision on an experiment, by its index in the plan; nullptr: none.
  const Decision* find(int experiment) noexcept {
    if (next->index == experiment) return next++;
    for (const Decision& decision : all()) {
      if (decision.index != experiment) continue;
      if (!deciding()) next = &decision + 1;
      return &decision;
    }
    return nullptr;
  }
  // Whether decisions are being made: somebody asks from within, and sees those of before.
  bool deciding() const noexcept { return decisions[count].index != kNoExperiment; }
  // Requires: there is room for them.
  void set_count(std::size_t decided) noexcept {
    count = static_cast<std::uint16_t>(decided);
    decisions[decided].index = kNoExperiment;
    next = decisions;
  }
  // Folds one more experiment into a name of several; the factor is odd, so that nothing is lost.
  static std::uint64_t with_exposure(std::uint64_t name, std::uint64_t identity, std::uint64_t epoch) noexcept {
    return (name ^ identity ^ epoch) * 0x9e3779b97f4a7c15;
  }
  // An exposure that the filter will remember.
  void will_expose(std::uint64_t identity, std::uint64_t epoch, std::uint64_t unit_hash) noexcept {
    exposures = with_exposure(exposures ^ unit_hash, identity, epoch);
    exposures ^= exposures >> 32;
  }
  Range<Decision> all() const noexcept { return {decisions, decisions + count}; }
};
static_assert(std::is_trivially_destructible_v<Pin> && std::is_trivially_destructible_v<Decision>);

// The main request's pin after an internal redirect, which took it out of r->ctx.
Pin* find_lost_pin(ngx_http_request_t* main) noexcept;
void release_pin(void* pin) noexcept;  // request_counts.h
// Makes the main request's pin, with room for `decisions`; nullptr: out of memory.
inline Pin* make_pin(ngx_http_request_t* main, Plan& plan, std::size_t decisions) noexcept {
  static_assert(alignof(Pin) <= NGX_ALIGNMENT && sizeof(Pin) % alignof(UnitValue) == 0 &&
                sizeof(UnitValue) % alignof(Decision) == 0);
  std::size_t units = plan.units;
  void* memory = ngx_palloc(main->pool, sizeof(Pin) + units * sizeof(UnitValue) + (decisions + 1) * sizeof(Decision));
  if (memory == nullptr) return nullptr;
  auto* pin = new (memory) Pin;
  pin->cleanup = {release_pin, pin, main->pool->cleanup};
  main->pool->cleanup = &pin->cleanup;
  for (std::size_t u = 0; u < units; ++u) new (&pin->units()[u]) UnitValue;
  pin->decisions = reinterpret_cast<Decision*>(pin->units() + units);
  pin->decisions->index = kNoExperiment;
  pin->capacity = static_cast<std::uint16_t>(decisions);
  pin->plan = &plan;
  pin->request = main;
  ++plan.references;
  ngx_http_set_ctx(main, pin, ngx_http_experiment_module);
  return pin;
}
// The same with the current plan; nullptr: no plan yet, or out of memory.
Pin* make_pin(ngx_http_request_t* r) noexcept;

// What the main request's context holds: its pin, a Placement::nothing, or nullptr.
inline Pin* context_of(ngx_http_request_t* r) noexcept {
  return static_cast<Pin*>(ngx_http_get_module_ctx(r->main, ngx_http_experiment_module));
}
// The main request's pin; nullptr: it has none.
inline Pin* find_pin(ngx_http_request_t* r) noexcept {
  Pin* pin = context_of(r);
  if (pin != nullptr) return pin->plan != nullptr ? pin : nullptr;
  return r->main->internal || r->main->filter_finalize ? find_lost_pin(r->main) : nullptr;
}
inline Pin* ensure_pin(ngx_http_request_t* r) noexcept {
  Pin* pin = find_pin(r);
  return pin != nullptr ? pin : make_pin(r);
}

// Reads the unit in this request, or mints it where nothing is found and its declaration says so.
void read_unit(ngx_http_request_t* r, Pin& pin, int unit) noexcept;
inline UnitValue& unit_of(ngx_http_request_t* r, Pin& pin, int unit) noexcept {
  UnitValue& value = pin.units()[unit];
  if (value.state == UnitValue::kUnread) read_unit(r, pin, unit);
  return value;
}
// The cookie's records, read at first need; nullptr: out of memory.
shared::CookieRecords* cookie_records(ngx_http_request_t* r, Pin& pin) noexcept;
// An indexed variable's value; empty when it has none.
std::string_view indexed(ngx_http_request_t* r, ngx_int_t index) noexcept;
// A cookie's value under its exact spelling for the scheme of this request.
std::string_view cookie_value(ngx_http_request_t* r, Pin& pin, const CookieName& name) noexcept;
// Whether cookies of this request carry Secure and the __Host- prefix.
bool is_https(ngx_http_request_t* r, Pin& pin) noexcept;

}  // namespace experiment::ngx
