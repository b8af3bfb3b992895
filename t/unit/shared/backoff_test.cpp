#include "shared/backoff.h"

#include <gtest/gtest.h>

#include <random>

namespace experiment::shared {
namespace {

TEST(Backoff, TriesAtOnceUntilSomethingFails) {
  const Backoff backoff;
  EXPECT_TRUE(backoff.may_try(0));
  EXPECT_TRUE(backoff.may_try(INT64_MIN + 1));
  EXPECT_EQ(backoff.wait_ms(1'000'000), 0);
}

TEST(Backoff, WindowDoublesToASecond) {
  Backoff backoff;
  for (const std::int64_t window : {100, 200, 400, 800, 1000, 1000}) {
    // Random bits that are the window itself give all of it.
    backoff.failed(5000, static_cast<std::uint64_t>(window), false);
    EXPECT_EQ(backoff.wait_ms(5000), window);
    EXPECT_FALSE(backoff.may_try(5000 + window - 1));
    EXPECT_TRUE(backoff.may_try(5000 + window));
  }
}

TEST(Backoff, JitterIsFull) {
  // n = 10000 draws from 0..1000: mean 500, sigma 288.9; 4 sigma of the mean are 11.6.
  std::mt19937_64 random(1);
  double sum = 0;
  std::int64_t least = 1000, most = 0;
  for (int i = 0; i < 10'000; ++i) {
    Backoff backoff;
    for (int failures = 0; failures < 6; ++failures) backoff.failed(0, random(), false);
    sum += static_cast<double>(backoff.wait_ms(0));
    least = std::min(least, backoff.wait_ms(0));
    most = std::max(most, backoff.wait_ms(0));
  }
  EXPECT_NEAR(sum / 10'000, 500, 11.6);
  EXPECT_LE(least, 5);
  EXPECT_GE(most, 995);
}

TEST(Backoff, WhatIsRefusedWaitsLonger) {
  Backoff backoff;
  backoff.failed(0, 0, true);
  EXPECT_EQ(backoff.wait_ms(0), 5000);
  backoff.failed(0, 1000, true);
  EXPECT_EQ(backoff.wait_ms(0), 4000);
}

TEST(Backoff, SuccessForgets) {
  Backoff backoff;
  for (int i = 0; i < 9; ++i) backoff.failed(0, 1000, false);
  backoff.succeeded();
  EXPECT_TRUE(backoff.may_try(0));
  backoff.failed(0, 100, false);
  EXPECT_EQ(backoff.wait_ms(0), 100);
}

}  // namespace
}  // namespace experiment::shared
