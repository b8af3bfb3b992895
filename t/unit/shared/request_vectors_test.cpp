#include "shared/request_vectors.h"

#include <gtest/gtest.h>

#include "t/unit/shared/zone_memory.h"

namespace experiment::shared {
namespace {

TEST(RequestVectors, RowsAreSummedOverStripesInTheirColumns) {
  TestZone t;
  ExperimentBlock& block = t.make_block("hero", 2);
  ASSERT_TRUE(t.zone.ensure_rows(block, 2));
  Counters totals;
  read_request_vectors(t.zone, totals);
  EXPECT_TRUE(totals.empty()) << "nothing was requested";
  for (std::uint32_t stripe : {0u, 1u}) {
    RequestCounters& row = *t.zone.requests(block, 1, stripe);
    row.status[1] += 3;  // 2xx
    row.cache[2] += 2;
    row.bytes_sent += 100;
    row.upstream_failures += 1;
    row.request.buckets[0] += 4;
    row.request.sum_ms += 7;
    row.upstream.sum_ms += 5;
  }
  read_request_vectors(t.zone, totals);
  ASSERT_EQ(totals.size(), 1u);
  EXPECT_EQ(totals.begin()->first, (CounterKey{"hero", 2, 1}));
  const CounterVector& vector = totals.begin()->second;
  ASSERT_EQ(vector.size(), static_cast<std::size_t>(kRequestColumns));
  EXPECT_EQ(vector[1], 6u);
  EXPECT_EQ(vector[kStatusClasses + 2], 4u);
  EXPECT_EQ(vector[kStatusClasses + kCacheStatuses], 200u);
  EXPECT_EQ(vector[kStatusClasses + kCacheStatuses + 1], 2u);
  EXPECT_EQ(vector[kStatusClasses + kCacheStatuses + 2], 8u);
  EXPECT_EQ(vector[kStatusClasses + kCacheStatuses + 1 + kLatencyColumns], 14u);
  EXPECT_EQ(vector.back(), 10u);
}

}  // namespace
}  // namespace experiment::shared
