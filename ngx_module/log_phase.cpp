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

// What few requests have.
[[gnu::noinline]] void count_more(shared::RequestCounters& row, const Observation& seen) noexcept {
  bump(row.request.sum_ms, seen.request.ms);
  if (seen.cache != 0 && seen.cache <= shared::kCacheStatuses) bump(row.cache[seen.cache - 1]);
  if (!seen.upstream) return;
  bump(row.upstream.buckets[seen.upstream_time.bucket]);
  bump(row.upstream.sum_ms, seen.upstream_time.ms);
  if (seen.upstream_failed) bump(row.upstream_failures);
}

}  // namespace

ngx_int_t log_request(ngx_http_request_t* r) noexcept {
  Pin* pin = r == r->main ? find_pin(r) : nullptr;
  if (pin == nullptr || pin->count == 0) return NGX_OK;
  const Observation seen = observation_of(r);
  const bool more = seen.upstream || seen.cache != 0 || seen.request.ms != 0;
  for (const Decision& decision : pin->all()) {
    bump(decision.experiment->counters->decisions[static_cast<std::size_t>(decision.reason)]);
    shared::RequestCounters* row = decision.requests;
    if (row == nullptr) continue;
    bump(row->status[seen.status_class]);
    bump(row->bytes_sent, seen.bytes);
    bump(row->request.buckets[seen.request.bucket]);
    if (more) count_more(*row, seen);
  }
  return NGX_OK;
}

}  // namespace experiment::ngx
