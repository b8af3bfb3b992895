#include "ngx_module/request_counts.h"

#include "ngx_module/worker.h"

namespace experiment::ngx {
namespace {

using shared::Counter;

void bump(Counter& counter, std::uint64_t by = 1) noexcept {
  counter.fetch_add(by, std::memory_order_relaxed);
}

std::size_t bucket_of(std::uint64_t ms) noexcept {
  std::size_t bucket = 0;
  while (bucket < shared::kLatencyBoundsMs.size() && ms > shared::kLatencyBoundsMs[bucket]) ++bucket;
  return bucket;
}

std::uint64_t elapsed_ms(const ngx_http_request_t* r) noexcept {
  ngx_time_t* now = ngx_timeofday();
  auto ms = static_cast<ngx_msec_int_t>((now->sec - r->start_sec) * 1000 +
                                        static_cast<ngx_msec_int_t>(now->msec - r->start_msec));
  return static_cast<std::uint64_t>(ms < 0 ? 0 : ms);
}

// What upstream peers and nginx's cache did for a request.
struct Upstream {
  bool asked = false;
  bool failed = false;  // seen behind error_page and retries as well
  std::uint64_t ms = 0;
  std::size_t cache = 0;  // cache status, 0: none
};

Upstream upstream_of(ngx_http_request_t* r, ngx_uint_t status) noexcept {
  Upstream upstream;
#if (NGX_HTTP_CACHE)
  if (r->upstream != nullptr) upstream.cache = r->upstream->cache_status;
#endif
  for (const auto& state : elements<ngx_http_upstream_state_t>(r->upstream_states)) {
    if (state.peer == nullptr) continue;
    upstream.asked = true;
    if (state.response_time != static_cast<ngx_msec_t>(-1)) upstream.ms += state.response_time;
    // No status: the peer said nothing, which is its fault unless the client left before.
    bool silent = state.status == 0 && status != NGX_HTTP_CLIENT_CLOSED_REQUEST;
    upstream.failed = upstream.failed || state.status >= 500 || silent;
  }
  return upstream;
}

// What answers have that took a while.
[[gnu::noinline]] void count_more(ngx_http_request_t* r, const Pin& pin, ngx_uint_t status, std::uint64_t ms) noexcept {
  const Upstream upstream = upstream_of(r, status);
  for (const Decision& decision : pin.all()) {
    shared::RequestCounters* row = decision.requests;
    if (row == nullptr) continue;
    bump(row->request.sum_ms, ms);
    if (upstream.cache != 0 && upstream.cache <= shared::kCacheStatuses) bump(row->cache[upstream.cache - 1]);
    if (!upstream.asked) continue;
    bump(row->upstream.buckets[bucket_of(upstream.ms)]);
    bump(row->upstream.sum_ms, upstream.ms);
    if (upstream.failed) bump(row->upstream_failures);
  }
}

inline void count_request(ngx_http_request_t* r, const Pin& pin) noexcept {
  const ngx_uint_t status = r->err_status != 0 ? r->err_status : r->headers_out.status;
  const std::size_t status_class = status >= 100 && status < 600 ? status / 100 - 1 : 4;
  const auto bytes = static_cast<std::uint64_t>(r->connection->sent);
  const std::uint64_t ms = elapsed_ms(r);
  const std::size_t bucket = bucket_of(ms);
  for (const Decision& decision : pin.all()) {
    bump(decision.experiment->counters->decisions[static_cast<std::size_t>(decision.reason)]);
    shared::RequestCounters* row = decision.requests;
    if (row == nullptr) continue;
    bump(row->status[status_class]);
    bump(row->bytes_sent, bytes);
    bump(row->request.buckets[bucket]);
  }
  if (ms != 0 || r->upstream != nullptr || r->upstream_states != nullptr) count_more(r, pin, status, ms);
}

}  // namespace

void release_pin(void* data) noexcept {
  auto& pin = *static_cast<Pin*>(data);
  if (pin.count != 0) count_request(pin.request, pin);
  release_plan(pin.plan);
}

}  // namespace experiment::ngx
