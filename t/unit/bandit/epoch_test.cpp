#include "bandit/epoch.h"

#include <algorithm>
#include <cmath>
#include <deque>

#include <gtest/gtest.h>

namespace experiment::bandit {
namespace {

constexpr std::int64_t kSecond = 1000, kMinute = 60 * kSecond, kHour = 60 * kMinute, kDay = 24 * kHour;

TEST(EpochLength, GrowsByAQuarterUpToAShareOfTheWindow) {
  EXPECT_EQ(epoch_length_ms(0, kMinute, 7 * kDay), kMinute);
  EXPECT_EQ(epoch_length_ms(kMinute, kMinute, 7 * kDay), 75 * kSecond);
  EXPECT_EQ(epoch_length_ms(10 * kSecond, kMinute, 7 * kDay), kMinute);
  EXPECT_EQ(epoch_length_ms(5 * kHour, kMinute, 7 * kDay), 6 * kHour);
  EXPECT_EQ(epoch_length_ms(24 * kHour, kMinute, 7 * kDay), 6 * kHour);
  EXPECT_EQ(epoch_length_ms(30 * kDay, kMinute, 28 * kDay), kDay);
}

TEST(EpochLength, MinEpochWinsOverAShortWindow) {
  EXPECT_EQ(epoch_length_ms(0, kHour, kHour), kHour);
  EXPECT_EQ(epoch_length_ms(kHour, kHour, kHour), kHour);
  EXPECT_EQ(epoch_length_ms(INT64_MAX, kHour, 0), kHour);
  EXPECT_EQ(epoch_length_ms(-5, kSecond, 0), kSecond);
}

// Runs epochs of exactly their length until the number of unsealed ones has long been stable; returns the largest
// number of open ones.
std::size_t most_open(std::int64_t min_epoch, std::int64_t window) {
  std::deque<std::int64_t> ends;
  std::size_t most = 0;
  std::int64_t length = 0;
  for (std::int64_t now = 0; now < 3 * window;) {
    length = epoch_length_ms(length, min_epoch, window);
    now += length;
    ends.push_back(now);
    while (sealed_at_ms(ends.front(), window) <= now) ends.pop_front();
    most = std::max(most, ends.size());
  }
  return most;
}

TEST(EpochRing, HoldsWhatIsOpenFromTenSecondsOn) {
  for (const std::int64_t min_epoch : {10 * kSecond, kMinute, 10 * kMinute, kHour, kDay}) {
    for (const std::int64_t window : {kMinute, kHour, kDay, 7 * kDay, 28 * kDay}) {
      EXPECT_LE(most_open(min_epoch, window), 65u) << min_epoch << " " << window;
    }
  }
  EXPECT_GT(most_open(kSecond, 28 * kDay), 65u) << "below that the allocator prolongs";
}

TEST(EpochRing, NeverEvictsAnUnsealedEpoch) {
  EXPECT_TRUE(may_start(0));
  EXPECT_TRUE(may_start(kEpochRing - 1));
  EXPECT_FALSE(may_start(kEpochRing));
  EXPECT_FALSE(may_start(kEpochRing + 5));
}

TEST(EpochEnd, NeedsAgeAndExposuresInEveryArmWithWeight) {
  CurrentEpoch epoch{kMinute, kMinute, 1000, {0.95, 0.05}, false};
  EXPECT_TRUE(may_end(epoch));
  epoch.age_ms -= 1;
  EXPECT_FALSE(may_end(epoch));
  epoch.age_ms = kDay;
  epoch.exposures = 999;
  EXPECT_FALSE(may_end(epoch));
  epoch.weights = {0.94, 0.06};
  EXPECT_TRUE(may_end(epoch));
}

TEST(EpochEnd, ArmsWithoutWeightAreNotWaitedFor) {
  EXPECT_TRUE(may_end({kMinute, kMinute, 100, {0.5, 0, 0.5}, false}));
  EXPECT_TRUE(may_end({kMinute, kMinute, 100, {5000, 0, 5000}, false})) << "slots are weights too";
}

TEST(EpochEnd, IsProlongedDuringWarmUp) {
  EXPECT_FALSE(may_end({kDay, kMinute, 1000000, {0.5, 0.5}, true}));
}

TEST(EpochEnd, UselessWeightsNeverEndIt) {
  EXPECT_FALSE(may_end({kDay, kMinute, 1000, {}, false}));
  EXPECT_FALSE(may_end({kDay, kMinute, 1000, {0, 0}, false}));
  EXPECT_FALSE(may_end({kDay, kMinute, 1000, {1, std::nan("")}, false}));
  EXPECT_FALSE(may_end({kDay, kMinute, 1000, {1, INFINITY}, false}));
}

TEST(EpochSeal, AtItsEndPlusTheWindow) {
  EXPECT_EQ(sealed_at_ms(5 * kDay, 7 * kDay), 12 * kDay);
}

TEST(EpochId, CountsAboveTwentyRandomBits) {
  const std::uint64_t first = *next_epoch_id(0, 0xabcde);
  EXPECT_EQ(first, (1ull << 20) + 0xabcde);
  EXPECT_EQ(*next_epoch_id(first, 0xffffffff), (2ull << 20) + 0xfffff) << "higher bits must not reach the number";
  EXPECT_EQ(epoch_number(first), 1u);
}

TEST(EpochId, LaterIsLargerWhateverTheRandomBits) {
  EXPECT_GT(*next_epoch_id((7ull << 20) + 0xfffff, 0), (7ull << 20) + 0xfffff);
}

TEST(EpochId, StaysBelowFortyEightBits) {
  const std::uint64_t last = ((1ull << 28) - 1) << 20;
  EXPECT_EQ(*next_epoch_id(last - (1ull << 20), 3), last + 3);
  EXPECT_FALSE(next_epoch_id(last, 0));
}

}  // namespace
}  // namespace experiment::bandit
