#include "shared/kills.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace experiment::shared {
namespace {

constexpr std::int64_t kDayS = 86400, kNowS = 1'700'000'000;

Kill kill_of(std::uint64_t id, const std::string& variant = "", std::int64_t at_s = kNowS) {
  return {variant, "slow", "ana", at_s, id};
}
Kill lifted_kill(std::uint64_t id, std::int64_t lifted_s, const std::string& variant = "") {
  Kill kill = kill_of(id, variant, lifted_s - 10);
  kill.lifted = Lift{"bob", "mended", lifted_s};
  return kill;
}

TEST(Kills, OldOnesAreToldApartByWhatTheySay) {
  EXPECT_EQ(identity_of(kill_of(7)), 7u);
  EXPECT_EQ(identity_of(kill_of(0)), identity_of(kill_of(0)));
  EXPECT_NE(identity_of(kill_of(0, "green")), identity_of(kill_of(0)));
  EXPECT_NE(identity_of(kill_of(0, "", 1)), identity_of(kill_of(0)));
  Kill moved = kill_of(0);
  moved.reason = "slowa";
  moved.by = "na";
  EXPECT_NE(identity_of(moved), identity_of(kill_of(0))) << "parts do not run into each other";
  Kill lifted = kill_of(0);
  lifted.lifted = Lift{};
  EXPECT_EQ(identity_of(lifted), identity_of(kill_of(0)));
}

TEST(Kills, OnlyWhatStandsIsFound) {
  std::vector<Kill> kills;
  EXPECT_FALSE(any_stands(kills));
  kills = {lifted_kill(1, kNowS, "green"), kill_of(2, "green"), kill_of(3, "green"), kill_of(4)};
  EXPECT_TRUE(any_stands(kills));
  EXPECT_EQ(find_standing(kills, "green")->id, 2u);
  EXPECT_EQ(find_standing(kills, "")->id, 4u);
  EXPECT_EQ(find_standing(kills, "blue"), nullptr);
  const auto lifted = lift_kills(kills, "green", {"bob", "mended", kNowS + 1});
  ASSERT_EQ(lifted.size(), 2u) << "every one that stands";
  EXPECT_TRUE(lifted[0].stands());
  EXPECT_EQ(kills[0].lifted->at_s, kNowS) << "what was lifted before stays as it is";
  EXPECT_EQ(kills[2].lifted->at_s, kNowS + 1);
  EXPECT_EQ(find_standing(kills, "green"), nullptr);
  EXPECT_TRUE(lift_kills(kills, "green", {}).empty());
  EXPECT_TRUE(any_stands(kills));
  lift_kills(kills, "", {});
  EXPECT_FALSE(any_stands(kills));
}

TEST(Kills, ACopyFromBeforeTheResumeBringsNothingBack) {
  const std::vector<Kill> before = {kill_of(1), kill_of(0, "green")};
  std::vector<Kill> after = before;
  lift_kills(after, "", {"bob", "mended", kNowS});
  lift_kills(after, "green", {"bob", "mended", kNowS});
  std::vector<Kill> united = before;
  EXPECT_TRUE(unite_kills(united, after));
  EXPECT_FALSE(any_stands(united));
  EXPECT_EQ(united.size(), 2u);
  united = after;
  EXPECT_FALSE(unite_kills(united, before)) << "nothing that it did not know";
  EXPECT_FALSE(any_stands(united));
  after.push_back(kill_of(9));
  united = before;
  unite_kills(united, after);
  EXPECT_EQ(find_standing(united, "")->id, 9u) << "a kill from after the resume stands";
}

TEST(Kills, OfAWholeStateAreUnited) {
  Runtime into, from;
  into.experiments["a"].kills = {kill_of(1)};
  from.kill_all = {kill_of(2)};
  from.experiments["a"].kills = {kill_of(3)};
  from.experiments["b"].kills = {kill_of(4)};
  from.experiments["c"];
  EXPECT_TRUE(unite_kills(into, from));
  EXPECT_EQ(into.kill_all.size(), 1u);
  EXPECT_EQ(into.experiments.at("a").kills.size(), 2u);
  EXPECT_EQ(into.experiments.at("b").kills.size(), 1u);
  EXPECT_EQ(into.experiments.count("c"), 0u);
  EXPECT_FALSE(unite_kills(into, from));
}

// Two hundred sets of kills from a small world, so that they meet often: the union is one whatever the order.
TEST(Kills, UnionIsCommutativeAssociativeAndIdempotent) {
  std::mt19937 random(11);
  const auto below = [&](std::int64_t n) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
  };
  const auto some = [&] {
    std::vector<Kill> kills;
    for (std::int64_t i = below(6); i > 0; --i) {
      const std::int64_t id = below(6);
      Kill kill = kill_of(static_cast<std::uint64_t>(id), id % 2 == 0 ? "" : "green", kNowS + id);
      if (below(2) == 0) kill.lifted = Lift{below(2) == 0 ? "bob" : "ana", "mended", kNowS + below(3)};
      if (below(8) == 0) kill.reason = "other";  // a copy that differs all the same
      kills.push_back(kill);
    }
    return kills;
  };
  const auto united = [](std::vector<Kill> a, const std::vector<Kill>& b) {
    unite_kills(a, b);
    return a;
  };
  for (int round = 0; round < 200; ++round) {
    const auto a = some(), b = some(), c = some();
    ASSERT_TRUE(same_kills(united(a, b), united(b, a))) << round;
    ASSERT_TRUE(same_kills(united(united(a, b), c), united(a, united(b, c)))) << round;
    ASSERT_TRUE(same_kills(united(a, a), a)) << round;
    for (const Kill& kill : a) {
      const auto is_lift = [&](const Kill& other) { return identity_of(other) == identity_of(kill) && other.lifted; };
      const bool lifted = std::any_of(a.begin(), a.end(), is_lift) || std::any_of(b.begin(), b.end(), is_lift);
      const auto all = united(a, b);
      const auto is_kill = [&](const Kill& other) {
        return identity_of(other) == identity_of(kill) && other.stands() == !lifted;
      };
      ASSERT_TRUE(std::any_of(all.begin(), all.end(), is_kill)) << round;
    }
  }
}

TEST(Kills, OrderIsByAge) {
  std::vector<Kill> kills = {kill_of(3, "", 30)};
  unite_kills(kills, {kill_of(1, "", 10), kill_of(2, "", 20)});
  EXPECT_EQ(kills[0].id, 1u);
  EXPECT_EQ(kills[2].id, 3u);
}

TEST(Kills, OldLiftsAreForgottenAndNothingThatStands) {
  std::vector<Kill> kills = {kill_of(1, "", 5), lifted_kill(2, kNowS - 400 * kDayS - 1),
                             lifted_kill(3, kNowS - 400 * kDayS)};
  prune_lifted(kills, kNowS);
  ASSERT_EQ(kills.size(), 2u);
  EXPECT_EQ(kills[0].id, 1u);
  EXPECT_EQ(kills[1].id, 3u);
}

TEST(Kills, FiftyLiftsOfEachVariantAreKept) {
  std::vector<Kill> kills;
  for (std::uint64_t i = 1; i <= 120; ++i) {
    kills.push_back(lifted_kill(i, kNowS + static_cast<std::int64_t>(i), i % 2 == 0 ? "green" : ""));
    kills.push_back(kill_of(1000 + i));
  }
  prune_lifted(kills, kNowS);
  const auto count = [&](auto is) { return std::count_if(kills.begin(), kills.end(), is); };
  EXPECT_EQ(count([](const Kill& kill) { return kill.stands(); }), 120);
  EXPECT_EQ(count([](const Kill& kill) { return !kill.stands() && kill.variant.empty(); }), 50);
  EXPECT_EQ(count([](const Kill& kill) { return !kill.stands() && kill.variant == "green"; }), 50);
  EXPECT_EQ(count([](const Kill& kill) { return !kill.stands() && kill.id <= 20; }), 0) << "the oldest go";
}

}  // namespace
}  // namespace experiment::shared
