#include "ngx_module/inbound.h"

#include <algorithm>
#include <array>
#include <new>

#include "ngx_module/cohort.h"
#include "ngx_module/decide.h"
#include "ngx_module/entity_tag.h"
#include "ngx_module/header_list.h"
#include "ngx_module/worker.h"

namespace experiment::ngx {
namespace {

constexpr std::array<std::string_view, 6> kOurs = {"experiment-assignments", "experiment-cohort",
                                                   "experiment-signature",   "experiment-unit",
                                                   "experiment-reward",      "experiment-served"};

// What no header of ours looks like at first sight.
inline bool may_be_ours(const ngx_table_elt_t& header) noexcept {
  return header.key.len >= 15 && (header.key.data[0] | 0x20) == 'e';
}

bool is_ours(const ngx_table_elt_t& header) noexcept {
  if (!may_be_ours(header)) return false;
  return std::any_of(kOurs.begin(), kOurs.end(), [&](std::string_view name) { return is_named(header, name); });
}

constexpr HeaderName kAssignments("Experiment-Assignments", "experiment-assignments");
constexpr HeaderName kCohort("Experiment-Cohort", "experiment-cohort");

// Our header of an earlier pass. Clients' were taken out, so that whatever has the name is ours.
ngx_table_elt_t* find_ours(ngx_http_request_t* r, const HeaderName& name) noexcept {
  for (Headers h(r->headers_in.headers); h; h.next()) {
    if (is_exactly(*h, name.lowcase)) return &*h;
  }
  return nullptr;
}

void put(ngx_http_request_t* r, const HeaderName& name, std::string_view value) noexcept {
  ngx_table_elt_t* known = r->internal ? find_ours(r, name) : nullptr;
  if (known != nullptr) {
    known->value = borrow(value);
  } else {
    push_inbound(r, name, value);
  }
}

void drop(ngx_http_request_t* r, ngx_table_elt_t*& known) noexcept {
  if (known == nullptr) return;
  for (Headers h(r->headers_in.headers); h; h.next()) {
    if (&*h != known) continue;
    known = nullptr;
    h.remove(r->pool);
    return;
  }
}

// The header as the origin knows it; the condition keeps what our own comparison needs. Returns false when nothing of
// it is left.
bool translate(ngx_http_request_t* r, ngx_table_elt_t* header, std::string_view token, Condition& condition) noexcept {
  if (condition.asked.data == nullptr) condition.asked = header->value;
  OriginTags tags = tags_without_token(r->pool, view(condition.asked), token);
  if (tags.tags.empty()) return false;
  header->value = borrow(tags.tags);
  condition.kept = borrow(tags.kept);
  return true;
}

bool is_tag(std::string_view condition) noexcept {
  return condition.size() > 1 && condition.back() == '"';
}

constexpr HeaderName kIfNoneMatch("If-None-Match", "if-none-match");

bool is_conditional(const ngx_http_headers_in_t& in) noexcept {
  return in.if_none_match != nullptr || in.if_range != nullptr || in.if_match != nullptr ||
         in.if_modified_since != nullptr || in.if_unmodified_since != nullptr;
}

// Conditional headers that were made for another cohort must not be answered for this one. Runs again behind an
// internal redirect, where more may apply.
void translate_conditions(ngx_http_request_t* r, Pin& pin, Conditions& sent) noexcept {
  auto& in = r->headers_in;
  if (in.if_none_match == nullptr && sent.if_none_match.asked.data != nullptr) {
    in.if_none_match = push_inbound(r, kIfNoneMatch, view(sent.if_none_match.asked));
  }
  if (loc_conf(r).isolation == static_cast<ngx_uint_t>(Isolation::kOff)) return;
  // Whoever writes means the origin's version of it, whichever variant was shown.
  if (in.if_match != nullptr) translate(r, in.if_match, kAnyToken, sent.if_match);
  std::string_view token = cohort_token(r, &pin, CohortScope::kOutward);
  // A date says nothing about the cohort: outward answers of an experiment carry none, so it is from before.
  bool dates = !anything_applied(&pin);
  if (in.if_none_match != nullptr && !translate(r, in.if_none_match, token, sent.if_none_match)) {
    dates = false;
    drop(r, in.if_none_match);
  }
  if (in.if_range != nullptr) {
    bool tag = is_tag(view(in.if_range->value));
    if (tag ? !translate(r, in.if_range, token, sent.if_range) : !dates) {
      dates = false;
      drop(r, in.if_range);
      drop(r, in.range);  // without its condition it would complete what was made for another cohort
    }
  }
  if (!dates) {
    drop(r, in.if_modified_since);
    drop(r, in.if_unmodified_since);
  }
}

// False: out of memory.
bool translate_conditions(ngx_http_request_t* r) noexcept {
  Pin* pin = ensure_pin(r);
  if (pin == nullptr) return current_plan() == nullptr;
  if (pin->conditions == nullptr) {
    auto* memory = ngx_palloc(r->pool, sizeof(Conditions));
    if (memory == nullptr) return false;
    pin->conditions = new (memory) Conditions();
  }
  translate_conditions(r, *pin, *pin->conditions);
  return true;
}

[[gnu::noinline]] ngx_int_t strip(ngx_http_request_t* r) noexcept {
  for (Headers h(r->headers_in.headers); h;) {
    if (!is_ours(*h)) {
      h.next();
    } else if (h.remove(r->pool)) {
      worker_counters().headers_stripped.fetch_add(1, std::memory_order_relaxed);
    } else {
      return NGX_HTTP_INTERNAL_SERVER_ERROR;  // out of memory: a forged header must not pass
    }
  }
  return NGX_DECLINED;
}

}  // namespace

ngx_int_t strip_inbound(ngx_http_request_t* r) noexcept {
  if (r != r->main) return NGX_DECLINED;
  for (const ngx_list_part_t* part = &r->headers_in.headers.part; part != nullptr; part = part->next) {
    auto* header = static_cast<const ngx_table_elt_t*>(part->elts);
    for (const ngx_table_elt_t* end = header + part->nelts; header != end; ++header) {
      if (may_be_ours(*header)) return strip(r);
    }
  }
  return NGX_DECLINED;
}

ngx_int_t forward_assignments(ngx_http_request_t* r) noexcept {
  if (r != r->main || r->http_version < NGX_HTTP_VERSION_10) return NGX_DECLINED;
  Pin* pin = ensure_decisions(r);
  put(r, kAssignments, assignments(r, pin));
  put(r, kCohort, cohort_token(r, pin, CohortScope::kInward));
  if (is_conditional(r->headers_in) || (pin != nullptr && pin->conditions != nullptr)) {
    if (!translate_conditions(r)) return NGX_HTTP_INTERNAL_SERVER_ERROR;
  }
  return NGX_DECLINED;
}

}  // namespace experiment::ngx
