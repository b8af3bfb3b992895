#include "shared/request_vectors.h"

#include <algorithm>

namespace experiment::shared {
namespace {

template <typename Array>
void add_all(const Array& counters, CounterVector& into, std::size_t& at) {
  for (const Counter& counter : counters) into[at++] += counter.load(std::memory_order_relaxed);
}

void add_latency(const Latency& latency, CounterVector& into, std::size_t& at) {
  add_all(latency.buckets, into, at);
  into[at++] += latency.sum_ms.load(std::memory_order_relaxed);
}

void add_stripe(const RequestCounters& row, CounterVector& into) {
  std::size_t at = 0;
  add_all(row.status, into, at);
  add_all(row.cache, into, at);
  into[at++] += row.bytes_sent.load(std::memory_order_relaxed);
  into[at++] += row.upstream_failures.load(std::memory_order_relaxed);
  add_latency(row.request, into, at);
  add_latency(row.upstream, into, at);
}

}  // namespace

void read_request_vectors(const Zone& zone, Counters& into) {
  const std::uint32_t stripes = zone.header().stripes;
  for (const ExperimentBlock* block : zone.blocks()) {
    for (std::size_t row = 0; row < block->requests.size(); ++row) {
      const Offset place = block->requests[row].load(std::memory_order_acquire);
      // A leader that lost its lease may meet blocks that the next one has freed.
      if (place == 0 || place + stripes * sizeof(RequestCounters) > zone.header().bytes) continue;
      CounterVector vector(kRequestColumns);
      for (std::uint32_t s = 0; s < stripes; ++s) add_stripe(zone.at<RequestCounters>(place)[s], vector);
      const bool any = std::any_of(vector.begin(), vector.end(), [](std::uint64_t n) { return n != 0; });
      if (any) into[{block->key, block->generation, row}] = std::move(vector);
    }
  }
}

}  // namespace experiment::shared
