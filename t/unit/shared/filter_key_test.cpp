#include "shared/filter_key.h"

#include <set>
#include <string>

#include <gtest/gtest.h>

namespace experiment::shared {
namespace {

TEST(FilterKey, WhatCountsApartHasKeysApart) {
  std::set<std::uint64_t> keys;
  std::size_t made = 0;
  auto take = [&](std::uint64_t key) {
    keys.insert(key);
    ++made;
  };
  for (const char* experiment : {"hero", "hero-2", "cta"}) {
    for (const std::uint32_t generation : {1u, 2u, 3u}) {
      const std::uint64_t identity = experiment_identity(experiment, generation);
      take(identity);
      for (int goal = -1; goal < 7; ++goal) {
        for (std::uint64_t unit = 0; unit < 200; ++unit)
          take(unit_event_key(identity, unit * 0x9e3779b97f4a7c15, goal));
        if (goal < 0) continue;
        for (int order = 0; order < 200; ++order) take(reward_id_key(identity, goal, "o-" + std::to_string(order)));
      }
    }
  }
  EXPECT_EQ(keys.size(), made);
}

// An order number of eight bytes must not meet the unit whose hash has these bytes.
TEST(FilterKey, AnIdIsNoUnit) {
  const std::uint64_t identity = experiment_identity("hero", 1), unit = 0x3132333435363738;
  const std::string_view id(reinterpret_cast<const char*>(&unit), sizeof(unit));
  for (int goal = 0; goal < 7; ++goal) {
    for (int other = -1; other < 7; ++other) {
      EXPECT_NE(reward_id_key(identity, goal, id), unit_event_key(identity, unit, other));
    }
  }
}

TEST(FilterKey, IsTheSameEverywhereAndAlways) {
  EXPECT_EQ(experiment_identity("hero", 1), experiment_identity(std::string("hero"), 1));
  EXPECT_NE(experiment_identity("hero", 1), experiment_identity("hero", 2));
  EXPECT_NE(experiment_identity("", 1), experiment_identity("", 2));
}

// Names of a few bytes that differ in one letter, and numbers that differ by one, with seeds that differ by one.
TEST(FilterKey, NeighboursDoNotMeet) {
  std::set<std::uint64_t> keys;
  std::size_t made = 0;
  for (char a = 'a'; a <= 'z'; ++a) {
    for (char b = 'a'; b <= 'z'; ++b) {
      for (std::uint32_t generation = 1; generation <= 8; ++generation, ++made) {
        keys.insert(experiment_identity(std::string{'c', a, b}, generation));
      }
    }
  }
  for (int order = 0; order < 20'000; ++order) {
    for (int goal = 0; goal < 7; ++goal, ++made)
      keys.insert(reward_id_key(0x123456789abcdef0, goal, std::to_string(order)));
  }
  EXPECT_EQ(keys.size(), made);
}

}  // namespace
}  // namespace experiment::shared
