#include "ngx_module/isolation.h"

#include <algorithm>

#include "ngx_module/cohort.h"
#include "ngx_module/compat.h"
#include "ngx_module/decide.h"
#include "ngx_module/entity_tag.h"
#include "ngx_module/header_list.h"
#include "ngx_module/worker.h"

namespace experiment::ngx {
namespace {

constexpr std::string_view kCohortHeader = "Experiment-Cohort";

bool contains(std::string_view text, std::string_view lowcase) noexcept {
  for (std::size_t at = 0; at + lowcase.size() <= text.size(); ++at) {
    std::size_t i = 0;
    while (i < lowcase.size() && ngx_tolower(text[at + i]) == lowcase[i]) ++i;
    if (i == lowcase.size()) return true;
  }
  return false;
}

#if (NGX_HTTP_CACHE)
// Whether a Vary names our header, and not one that only begins or ends like it.
bool names_cohort(std::string_view vary) noexcept {
  constexpr std::string_view kSpace = " \t";
  while (!vary.empty()) {
    std::size_t comma = vary.find(',');
    std::string_view name = vary.substr(0, comma);
    vary.remove_prefix(comma == vary.npos ? vary.size() : comma + 1);
    name.remove_prefix(std::min(name.size(), name.find_first_not_of(kSpace)));
    name = name.substr(0, name.find_last_not_of(kSpace) + 1);
    if (name.size() == kCohortHeader.size() && contains(name, "experiment-cohort")) return true;
  }
  return false;
}

// Whether the entry that this answer came from was stored with our Vary.
bool was_isolated(const ngx_http_cache_t& cache) noexcept {
  if (cache.buf == nullptr || cache.buf->start == nullptr) return false;
  const auto* header = reinterpret_cast<const ngx_http_file_cache_header_t*>(cache.buf->start);
  return names_cohort({reinterpret_cast<const char*>(header->vary), header->vary_len});
}
#endif

bool ends_as_cdn_cache_control(std::string_view name) noexcept {
  return name.size() >= 17 && contains(name.substr(name.size() - 17), "cdn-cache-control");
}

// Takes out what others say about storing. Returns: whether the origin's Cache-Control forbids it altogether, which is
// stricter than ours.
[[gnu::noinline]] bool take_cache_headers(ngx_http_request_t* r) noexcept {
  bool no_store = false;
  for (Headers h(r->headers_out.headers); h; h.next()) {
    if (h->hash == 0) continue;
    if (is_named(*h, "cache-control")) {
      no_store = no_store || contains(view(h->value), "no-store");
      h->hash = 0;
    } else if (is_named(*h, "expires") || is_named(*h, "pragma") || is_named(*h, "surrogate-control") ||
               ends_as_cdn_cache_control(view(h->key))) {
      h->hash = 0;
    }
  }
  r->headers_out.expires = nullptr;
  clear_cache_control(r);
  return no_store;
}

// Tags for purging in a cache that computes the cohort itself: "exp:key" and "exp:key:variant" of each experiment that
// applied.
[[gnu::noinline]] void push_tags(ngx_http_request_t* r, const Pin& pin) noexcept {
  std::size_t room = 0;
  for (const Decision& decision : pin.all()) room += 2 * decision.experiment->key.size() + bandit::kMaxKeyBytes + 24;
  auto* memory = static_cast<u_char*>(ngx_pnalloc(r->pool, 3 * room + 1));
  if (memory == nullptr) return;
  struct Form {
    std::string_view header, separator, quote;
  };
  for (const Form& form :
       {Form{"Surrogate-Key", " ", ""}, Form{"Cache-Tag", ",", ""}, Form{"Cache-Groups", ", ", "\""}}) {
    u_char* begin = memory;
    u_char* end = begin;
    auto put = [&](std::string_view text) { end = ngx_cpymem(end, text.data(), text.size()); };
    for (const Decision& decision : pin.all()) {
      if (!decision.applied) continue;
      const PlanExperiment& experiment = *decision.experiment;
      for (bool with_variant : {false, true}) {
        if (with_variant && !decision.enrolled()) continue;
        if (end != begin) put(form.separator);
        put(form.quote);
        put("exp:");
        put(experiment.key);
        if (with_variant) {
          put(":");
          put(experiment.arms[decision.arm].variant);
        }
        put(form.quote);
      }
    }
    push_outbound(r, form.header, {reinterpret_cast<char*>(begin), static_cast<std::size_t>(end - begin)});
    memory = end;
  }
}

void isolate_tag(ngx_http_request_t* r, Pin& pin) noexcept {
  ngx_table_elt_t* tag = r->headers_out.etag;
  std::string_view token = cohort_token(r, &pin, CohortScope::kOutward);
  std::string_view with = token == "-" ? view(tag->value) : tag_with_token(r->pool, view(tag->value), token);
  if (with.empty()) {
    ngx_http_clear_etag(r);
  } else {
    tag->value = borrow(with);
  }
}

// What the client sent is compared with what it is sent, tokens and all.
void restore_conditions(ngx_http_request_t* r, const Conditions& sent) noexcept {
  auto& in = r->headers_in;
  if (in.if_none_match != nullptr && sent.if_none_match.kept.data != nullptr)
    in.if_none_match->value = sent.if_none_match.kept;
  if (in.if_match != nullptr && sent.if_match.kept.data != nullptr) in.if_match->value = sent.if_match.kept;
  if (in.if_range != nullptr && sent.if_range.kept.data != nullptr) in.if_range->value = sent.if_range.kept;
}

}  // namespace

#if (NGX_HTTP_CACHE)
void isolate_cache(ngx_http_request_t* r, Pin* pin) noexcept {
  if (loc_conf(r).cache == 0) return;
  ngx_http_cache_t& cache = *r->cache;
  bool mixed = r->cached && !was_isolated(cache) && cohort_token(r, pin, CohortScope::kInward) != "-";
  if (mixed) {
    worker_counters().not_isolated.fetch_add(1, std::memory_order_relaxed);
  }
  std::string_view vary = view(cache.vary);
  if (names_cohort(vary)) return;
  if (vary.empty()) {
    cache.vary = borrow(kCohortHeader);
    return;
  }
  std::size_t length = vary.size() + 2 + kCohortHeader.size();
  auto* joined = length > NGX_HTTP_CACHE_VARY_LEN ? nullptr : static_cast<u_char*>(ngx_pnalloc(r->pool, length));
  if (joined == nullptr) {
    // It does not fit: an answer that nobody else may see is not stored. Where nothing applies everybody may.
    if (!anything_applied(pin) || r->upstream == nullptr || !r->upstream->cacheable) return;
    r->upstream->cacheable = 0;
    worker_counters().not_stored.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  ngx_memcpy(ngx_cpymem(ngx_cpymem(joined, vary.data(), vary.size()), ", ", 2), kCohortHeader.data(),
             kCohortHeader.size());
  cache.vary = {length, joined};
}
#endif

void isolate_tags(ngx_http_request_t* r, Pin& pin) noexcept {
  if (r->headers_out.etag != nullptr) isolate_tag(r, pin);
  if (pin.conditions != nullptr) restore_conditions(r, *pin.conditions);
}

void isolate_outward(ngx_http_request_t* r, Pin& pin) noexcept {
  Isolation isolation = isolation_of(r);
  if (isolation == Isolation::kOff) return;
  if (isolation == Isolation::kTagged && !pin.cookie_sent) return push_tags(r, pin);
  constexpr std::string_view kName = "Cache-Control", kPrivate = "private, no-cache",
                             kNoStore = "private, no-cache, no-store";
  bool no_store = r->headers_out.headers.part.nelts != 0 && take_cache_headers(r);
  push_outbound(r, kName, no_store ? kNoStore : kPrivate);
}

}  // namespace experiment::ngx
