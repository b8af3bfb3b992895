#include "ngx_module/inbound.h"

#include <array>

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

bool is_ours(const ngx_table_elt_t& header) noexcept {
  if (header.key.len < 15 || (header.key.data[0] | 0x20) != 'e' || (header.key.data[1] | 0x20) != 'x') return false;
  for (std::string_view name : kOurs) {
    if (is_named(header, name)) return true;
  }
  return false;
}

void put(ngx_http_request_t* r, ngx_table_elt_t*& place, std::string_view name, std::string_view lowcase,
         std::string_view value) noexcept {
  if (place != nullptr) {
    place->value = borrow(value);
  } else {
    place = push_inbound(r, name, lowcase, value);
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

// Conditional headers that were made for another cohort must not be answered for this one. Runs again behind an
// internal redirect, where more may apply.
void translate_conditions(ngx_http_request_t* r, Pin& pin) noexcept {
  auto& in = r->headers_in;
  if (in.if_none_match == nullptr && pin.if_none_match.asked.data != nullptr) {
    in.if_none_match = push_inbound(r, "If-None-Match", "if-none-match", view(pin.if_none_match.asked));
  }
  if (in.if_none_match == nullptr && in.if_range == nullptr && in.if_match == nullptr &&
      in.if_modified_since == nullptr && in.if_unmodified_since == nullptr) {
    return;
  }
  if (loc_conf(r).isolation == static_cast<ngx_uint_t>(Isolation::kOff)) return;
  // Whoever writes means the origin's version of it, whichever variant was shown.
  if (in.if_match != nullptr) translate(r, in.if_match, kAnyToken, pin.if_match);
  std::string_view token = cohort_token(r, &pin, CohortScope::kOutward);
  // A date says nothing about the cohort: outward answers of an experiment carry none, so it is from before.
  bool dates = !anything_applied(&pin);
  if (in.if_none_match != nullptr && !translate(r, in.if_none_match, token, pin.if_none_match)) {
    dates = false;
    drop(r, in.if_none_match);
  }
  if (in.if_range != nullptr) {
    bool tag = is_tag(view(in.if_range->value));
    if (tag ? !translate(r, in.if_range, token, pin.if_range) : !dates) {
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

}  // namespace

ngx_int_t strip_inbound(ngx_http_request_t* r) noexcept {
  if (r != r->main || r->headers_in.headers.part.nelts == 0) return NGX_DECLINED;
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

ngx_int_t forward_assignments(ngx_http_request_t* r) noexcept {
  if (r != r->main || r->http_version < NGX_HTTP_VERSION_10) return NGX_DECLINED;
  Pin* pin = ensure_decisions(r);
  if (pin == nullptr && r->internal) return NGX_DECLINED;  // already said
  ngx_table_elt_t* none_assignments = nullptr;
  ngx_table_elt_t* none_cohort = nullptr;
  put(r, pin == nullptr ? none_assignments : pin->assignments, "Experiment-Assignments", "experiment-assignments",
      assignments(r, pin));
  put(r, pin == nullptr ? none_cohort : pin->cohort, "Experiment-Cohort", "experiment-cohort",
      cohort_token(r, pin, CohortScope::kInward));
  if (pin != nullptr) translate_conditions(r, *pin);
  return NGX_DECLINED;
}

}  // namespace experiment::ngx
