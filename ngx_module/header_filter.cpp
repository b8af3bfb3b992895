#include "ngx_module/header_filter.h"

#include "ngx_module/cohort.h"
#include "ngx_module/cookie_jar.h"
#include "ngx_module/decide.h"
#include "ngx_module/exposure.h"
#include "ngx_module/header_list.h"
#include "ngx_module/isolation.h"
#include "ngx_module/reward.h"

namespace experiment::ngx {
namespace {

ngx_http_output_header_filter_pt next_of_first = nullptr;
ngx_http_output_header_filter_pt next_of_outward = nullptr;

// What the backend says to us.
struct Said {
  std::string_view served;  // Experiment-Served; no data: absent
  bool reward = false;
};

// Takes Experiment-Served out.
[[gnu::noinline]] Said take_said(ngx_http_request_t* r) noexcept {
  Said said;
  each_header(r->headers_out.headers, [&](ngx_table_elt_t& header) {
    if (header.key.len != 17 || (header.key.data[0] | 0x20) != 'e' || header.hash == 0) return;
    if (is_named(header, "experiment-served")) {
      said.served = view(header.value);
      header.hash = 0;
    } else if (is_named(header, "experiment-reward")) {
      said.reward = true;
    }
  });
  return said;
}

// Returns: the pin, which rewards may have made.
Pin* count_rewards(ngx_http_request_t* r, const Said& said) noexcept {
  Pin* pin = ensure_pin(r);
  if (said.reward) harvest(r, pin);
  if (pin != nullptr) count_location_rewards(r, *pin);
  return pin;
}

// A reload that failed may have left us in the chain of workers whose configuration has no zone.
bool is_on(ngx_http_request_t* r) noexcept {
  return main_conf(r).shm != nullptr;
}

[[gnu::noinline]] void filter_subrequest(ngx_http_request_t* r) noexcept {
  if (!is_on(r)) return;
  Pin* pin = find_pin(r);
  isolate_inward(r, pin);
  if (take_said(r).reward) harvest(r, nullptr);
  // If-Range is compared with each slice of the answer.
  if (anything_applied(pin) && r->subrequest_ranges) isolate_validators(r, *pin);
}

// Answers with headers, from a cache, or with rewards of their location.
[[gnu::noinline]] void filter_main(ngx_http_request_t* r, Pin* pin) noexcept {
  if (!is_on(r)) return;
  isolate_inward(r, pin);
  Said said = take_said(r);
  if (pin != nullptr) count_exposures(r, *pin, said.served);
  if (said.reward || loc_conf(r).rewards != nullptr) pin = count_rewards(r, said);
  if (anything_applied(pin)) isolate_validators(r, *pin);
}

bool is_cached(const ngx_http_request_t* r) noexcept {
#if (NGX_HTTP_CACHE)
  return r->cache != nullptr;
#else
  return false;
#endif
}

// Before not_modified.
ngx_int_t first_filter(ngx_http_request_t* r) noexcept {
  if (r != r->main) {
    filter_subrequest(r);
    return next_of_first(r);
  }
  Pin* pin = ensure_decisions(r);
  if (r->headers_out.headers.part.nelts != 0 || is_cached(r) || loc_conf(r).rewards != nullptr) {
    filter_main(r, pin);
  } else if (anything_applied(pin)) {
    count_exposures(r, *pin, {});
    isolate_validators(r, *pin);
  }
  return next_of_first(r);
}

// After nginx's headers filter. Cookies are set here, since a 304 passes here too and other filters may have ended the
// request before.
ngx_int_t outward_filter(ngx_http_request_t* r) noexcept {
  Pin* pin = r == r->main ? find_pin(r) : nullptr;
  if (pin != nullptr && !pin->headers_out) {
    pin->headers_out = true;
    if (pin->minted || pin->cookie_changed) pin->cookie_sent = set_cookies(r, *pin);
    if (pin->applied || pin->cookie_sent) isolate_outward(r, *pin);
  }
  return next_of_outward(r);
}

}  // namespace

void install_first_filter() noexcept {
  next_of_first = ngx_http_top_header_filter;
  ngx_http_top_header_filter = first_filter;
}

void install_outward_filter() noexcept {
  next_of_outward = ngx_http_top_header_filter;
  ngx_http_top_header_filter = outward_filter;
}

}  // namespace experiment::ngx
