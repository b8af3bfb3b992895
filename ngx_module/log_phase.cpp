#include "ngx_module/log_phase.h"

#include "ngx_module/decide.h"

namespace experiment::ngx {
namespace {

using shared::Counter;

void bump(Counter& counter, std::uint64_t by = 1) noexcept {
  counter.fetch_add(by, std::memory_order_relaxed);
}

struct Duration {
  std::size_t bucket = 0;
  std::uint64_t ms = 0;
};

Duration duration_of(std::uint64_t ms) noexcept {
  std::size_t bucket = 0;
  while (bucket < shared::kLatencyBoundsMs.size() && ms > shared::kLatencyBoundsMs[bucket]) ++bucket;
  return {bucket, ms};
}

void observe(shared::Latency& latency, const Duration& duration) noexcept {
  bump(latency.buckets[duration.bucket]);
  if (duration.ms != 0) bump(latency.sum_ms, duration.ms);
}

// What all rows of a request get.
struct Observation {
  std::size_t status_class = 0;
  std::size_t cache = 0;  // cache status, 0: none
  std::uint64_t bytes = 0;
  Duration request;
  Duration upstream_time;
  bool upstream = false;
  bool upstream_failed = false;  // seen behind error_page and retries as well
};

[[gnu::noinline]] void observe_upstream(ngx_http_request_t* r, ngx_uint_t status, Observation& seen) noexcept {
  std::uint64_t upstream_ms = 0;
  for (const auto& state : elements<ngx_http_upstream_state_t>(r->upstream_states)) {
    if (state.peer == nullptr) continue;
    seen.upstream = true;
    if (state.response_time != static_cast<ngx_msec_t>(-1)) upstream_ms += state.response_time;
    // No status: the peer said nothing, which is its fault unless the client left before.
    bool silent = state.status == 0 && status != NGX_HTTP_CLIENT_CLOSED_REQUEST;
    seen.upstream_failed = seen.upstream_failed || state.status >= 500 || silent;
  }
  seen.upstream_time = duration_of(upstream_ms);
}

inline Observation observation_of(ngx_http_request_t* r) noexcept {
  Observation seen;
  ngx_uint_t status = r->err_status != 0 ? r->err_status : r->headers_out.status;
  seen.status_class = status >= 100 && status < 600 ? status / 100 - 1 : 4;
  seen.bytes = static_cast<std::uint64_t>(r->connection->sent);
  ngx_time_t* now = ngx_timeofday();
  auto ms = static_cast<ngx_msec_int_t>((now->sec - r->start_sec) * 1000 +
                                        static_cast<ngx_msec_int_t>(now->msec - r->start_msec));
  seen.request = duration_of(static_cast<std::uint64_t>(ms < 0 ? 0 : ms));
#if (NGX_HTTP_CACHE)
  if (r->upstream != nullptr) seen.cache = r->upstream->cache_status;
#endif
  if (r->upstream_states != nullptr) observe_upstream(r, status, seen);
  return seen;
}

void count(shared::RequestCounters& row, const Observation& seen) noexcept {
  bump(row.status[seen.status_class]);
  bump(row.bytes_sent, seen.bytes);
  observe(row.request, seen.request);
  if (seen.cache != 0 && seen.cache <= shared::kCacheStatuses) bump(row.cache[seen.cache - 1]);
  if (!seen.upstream) return;
  observe(row.upstream, seen.upstream_time);
  if (seen.upstream_failed) bump(row.upstream_failures);
}

}  // namespace

ngx_int_t log_request(ngx_http_request_t* r) noexcept {
  Pin* pin = r == r->main ? find_pin(r) : nullptr;
  if (pin == nullptr || pin->count == 0) return NGX_OK;
  Observation seen = observation_of(r);
  for (const Decision& decision : pin->all()) {
    const PlanExperiment& experiment = *decision.experiment;
    bump(experiment.counters->decisions[static_cast<std::size_t>(decision.reason)]);
    if (!decision.enrolled()) continue;
    shared::RequestCounters* row = experiment.requests[static_cast<std::size_t>(decision.row())];
    if (row != nullptr) count(*row, seen);
  }
  return NGX_OK;
}

}  // namespace experiment::ngx
