#include "shared/allocate.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "bandit/epoch.h"
#include "shared/reconcile.h"
#include "t/unit/shared/experiment_fixture.h"

namespace experiment::shared {
namespace {

using bandit::Experiment;
using bandit::Phase;
using bandit::Quotas;

// An adaptive experiment with its runtime state, whose visitors come as told.
class Allocate : public ::testing::Test {
 protected:
  void begin(Experiment experiment) {
    experiment_ = std::move(experiment);
    reconciled();
  }
  void reconciled() { reconcile(document_of({experiment_}), runtime_, now_ms_, random_); }
  ExperimentRuntime& state() { return runtime_.experiments.at("hero"); }
  const Quotas& quotas() { return state().epochs.back().quotas; }

  // Exposures by arm and rewards among them, in the current epoch.
  void count(const std::vector<std::uint64_t>& n, const std::vector<std::uint64_t>& s) {
    const EpochRecord& epoch = state().epochs.back();
    const auto columns = static_cast<std::size_t>(columns_of(state().goals, epoch.goals));
    CounterVector& vector = totals_[{"hero", state().generation, epoch.id}];
    vector.resize((1 + epoch.quotas.size()) * columns);
    for (std::size_t a = 0; a < n.size(); ++a) {
      vector[(1 + a) * columns] += n[a];
      vector[(1 + a) * columns + 1] += s[a];
    }
  }
  AllocationLook look(bool may_publish = true) {
    return allocate(experiment_, state(), totals_, now_ms_, random_(), may_publish);
  }

  Experiment experiment_;
  Runtime runtime_;
  Counters totals_;
  std::int64_t now_ms_ = 1'700'000'000'000;
  RandomBits random_ = seeded_bits(2);
};

TEST_F(Allocate, LooksOnlyAtAdaptiveOnesThatRun) {
  begin(make_experiment("hero", {1, 1}));
  count({9000, 9000}, {100, 900});
  now_ms_ += 3600 * 1000;
  EXPECT_FALSE(look().new_epoch);
  runtime_ = {};
  begin(make_bandit("hero", {1, 1}));
  count({9000, 9000}, {100, 900});
  now_ms_ += 3600 * 1000;
  for (const auto desired : {bandit::Desired::kFrozen, bandit::Desired::kStopped, bandit::Desired::kDraft}) {
    experiment_.desired = desired;
    EXPECT_FALSE(look().new_epoch);
    EXPECT_TRUE(look().p_best.empty());
  }
  experiment_.desired = bandit::Desired::kRunning;
  EXPECT_TRUE(look().new_epoch);
}

TEST_F(Allocate, WarmUpProlongsTheFirstEpochAtTheDeclaredWeights) {
  Experiment experiment = make_bandit("hero", {3, 1});
  experiment.policy.warm_up = {100, 25, 3600};
  begin(experiment);
  count({30000, 10000}, {300, 500});
  now_ms_ += 3599 * 1000;
  EXPECT_EQ(look().phase, Phase::kWarmingUp);
  EXPECT_EQ(state().epochs.size(), 1u) << "for";
  EXPECT_EQ(quotas(), (Quotas{7500, 2500}));
  now_ms_ += 1000;
  const AllocationLook after = look();
  EXPECT_EQ(after.phase, Phase::kLearning);
  EXPECT_TRUE(after.new_epoch);
  ASSERT_EQ(after.p_best.size(), 2u);
  EXPECT_GT(after.p_best[1], 0.999);
  EXPECT_EQ(quotas(), (Quotas{100, 9900})) << "the floor is 0.01";
}

TEST_F(Allocate, WarmUpWaitsForExposuresAndSuccessesOfEveryArm) {
  Experiment experiment = make_bandit("hero", {1, 1});
  experiment.policy.warm_up = {1000, 25, 0};
  begin(experiment);
  now_ms_ += 60 * 1000;
  count({5000, 999}, {100, 100});
  EXPECT_EQ(look().phase, Phase::kWarmingUp);
  count({0, 1}, {0, 0});
  EXPECT_EQ(look().phase, Phase::kLearning);
  totals_.clear();
  now_ms_ += 3600 * 1000;
  runtime_ = {};
  reconciled();
  now_ms_ += 3600 * 1000;
  count({5000, 5000}, {24, 100});
  EXPECT_EQ(look().phase, Phase::kWarmingUp);
  count({0, 0}, {1, 0});
  EXPECT_EQ(look().phase, Phase::kLearning);
}

TEST_F(Allocate, AnEpochLastsItsLengthAndHasFiftyExpectedInEveryArm) {
  Experiment experiment = make_bandit("hero", {1, 1});
  experiment.policy.min_epoch_s = 60;
  begin(experiment);
  count({1000, 1000}, {20, 30});
  now_ms_ += 59'999;
  EXPECT_FALSE(look().new_epoch);
  now_ms_ += 1;
  EXPECT_TRUE(look().new_epoch);
  // The next one: 25 % longer, and in proportion to its smallest arm.
  const auto least = *std::min_element(quotas().begin(), quotas().end());
  const auto needed = static_cast<std::uint64_t>(std::ceil(50.0 * bandit::kSlots / least));
  now_ms_ += 74'999;
  count({needed - 1, 0}, {10, 0});
  EXPECT_FALSE(look().new_epoch);
  now_ms_ += 1;
  EXPECT_FALSE(look().new_epoch) << "one exposure short";
  count({1, 0}, {0, 0});
  EXPECT_TRUE(look().new_epoch);
}

TEST_F(Allocate, EpochsGrowToATwentyEighthOfTheWindow) {
  Experiment experiment = make_bandit("hero", {1, 1});
  experiment.goals[0].window_s = 2800;
  experiment.policy.min_epoch_s = 10;
  begin(experiment);
  std::int64_t length = 0, before = 0;
  for (int epoch = 0; epoch < 40; ++epoch) {
    count({100000, 100000}, {2000, 2000});
    length = 0;
    do {
      now_ms_ += 1000;
      length += 1000;
    } while (!look().new_epoch);
    EXPECT_GE(length, before);
    EXPECT_LE(length, std::max<std::int64_t>(10'000, before * 5 / 4 + 1000));
    before = length;
  }
  EXPECT_EQ(length, 100'000);
}

TEST_F(Allocate, AKilledArmGivesItsSlotsAwayAtTheNextLook) {
  begin(make_bandit("hero", {1, 1, 1}));
  count({500, 500, 500}, {50, 50, 50});
  now_ms_ += 2000;
  ASSERT_TRUE(look().new_epoch);
  state().kills.push_back({"v1", "slow", "kill file", 1});
  now_ms_ += 1;
  EXPECT_TRUE(look().new_epoch) << "without age or exposures";
  EXPECT_EQ(quotas()[1], 0);
  EXPECT_EQ(std::accumulate(quotas().begin(), quotas().end(), 0), bandit::kSlots);
  EXPECT_FALSE(look().new_epoch) << "once";
  reconciled();
  EXPECT_EQ(quotas()[1], 0) << "and the document does not give them back";
}

TEST_F(Allocate, AKilledArmGivesItsSlotsAwayDuringWarmUp) {
  Experiment experiment = make_bandit("hero", {2, 1, 1});
  experiment.policy.warm_up = {100, 25, 86400};
  begin(experiment);
  state().kills.push_back({"v2", "slow", "kill file", 1});
  EXPECT_TRUE(look().new_epoch);
  EXPECT_EQ(quotas(), (Quotas{6667, 3333, 0})) << "the others in the document's proportion";
}

TEST_F(Allocate, WithEverythingKilledTheTableStays) {
  begin(make_bandit("hero", {1, 1}));
  for (const char* arm : {"control", "v1"}) state().kills.push_back({arm, "slow", "kill file", 1});
  count({5000, 5000}, {50, 90});
  now_ms_ += 3600 * 1000;
  EXPECT_FALSE(look().new_epoch);
  EXPECT_EQ(quotas(), (Quotas{5000, 5000}));
}

TEST_F(Allocate, AFullRingProlongsEvenForAKill) {
  begin(make_bandit("hero", {1, 1, 1}));
  while (!ring_full(state())) {
    count({5000, 5000, 5000}, {100, 100, 100});
    now_ms_ += 10'000;
    ASSERT_TRUE(start_epoch(state(), {1, 1, 1}, now_ms_, random_()));
  }
  const std::uint64_t id = state().epochs.back().id;
  state().kills.push_back({"v1", "slow", "kill file", 1});
  count({5000, 5000, 5000}, {100, 100, 100});
  now_ms_ += 3600 * 1000;
  const AllocationLook prolonged = look();
  EXPECT_FALSE(prolonged.new_epoch);
  EXPECT_FALSE(prolonged.p_best.empty()) << "what is known is still shown";
  EXPECT_EQ(state().epochs.back().id, id);
  state().epochs.front().sealed = true;
  EXPECT_TRUE(look().new_epoch);
}

TEST_F(Allocate, WhereNothingCanBeStoredNothingBegins) {
  begin(make_bandit("hero", {1, 1}));
  count({5000, 5000}, {50, 90});
  now_ms_ += 3600 * 1000;
  const AllocationLook held = look(false);
  EXPECT_FALSE(held.new_epoch);
  EXPECT_EQ(held.phase, Phase::kLearning);
  EXPECT_EQ(state().epochs.size(), 1u);
  EXPECT_TRUE(look().new_epoch);
}

TEST_F(Allocate, WithoutCountersNothingHappens) {
  begin(make_bandit("hero", {1, 1}));
  now_ms_ += 86400 * 1000;
  EXPECT_EQ(look().phase, Phase::kWarmingUp);
  EXPECT_EQ(state().epochs.size(), 1u);
  totals_[{"hero", 1, state().epochs[0].id}] = {};
  EXPECT_EQ(look().phase, Phase::kWarmingUp);
  totals_[{"hero", 2, state().epochs[0].id}] = CounterVector(6, 100000);
  totals_[{"other", 1, state().epochs[0].id}] = CounterVector(6, 100000);
  EXPECT_EQ(look().phase, Phase::kWarmingUp) << "another generation's and another experiment's";
}

TEST_F(Allocate, OnlyTheGoalItLearnsFromAndNoBaselineRow) {
  Experiment experiment = make_bandit("hero", {1, 1});
  experiment.goals.insert(experiment.goals.begin(),
                          {"revenue", bandit::GoalKind::kValue, bandit::ValuePer::kTotal, 86400, 2, 500});
  begin(experiment);
  now_ms_ += 60'000;
  CounterVector& vector = totals_[{"hero", 1, state().epochs[0].id}];
  //          n     c     S      Q     buy
  vector = {90000, 9000, 99999, 9999, 90000,  // baseline
            10000, 9999, 99999, 9999, 500,    // control
            10000, 1,    1,     1,    900};
  const AllocationLook learned = look();
  ASSERT_EQ(learned.p_best.size(), 2u);
  EXPECT_GT(learned.p_best[1], 0.999) << "by purchases, not by revenue";
}

TEST_F(Allocate, AClockThatWasSetBackHoldsNothingUp) {
  begin(make_bandit("hero", {1, 1}));
  count({5000, 5000}, {50, 90});
  now_ms_ += 60'000;
  ASSERT_TRUE(look().new_epoch);
  now_ms_ -= 30'000;
  count({5000, 5000}, {50, 90});
  EXPECT_EQ(look().phase, Phase::kLearning);
  EXPECT_FALSE(look().new_epoch) << "its age is negative";
  now_ms_ += 30'000 + 75'000;
  EXPECT_TRUE(look().new_epoch);
}

TEST_F(Allocate, EpochsStayBoundedHoweverShortTheWindow) {
  Experiment experiment = make_bandit("hero", {1, 1});
  experiment.goals[0].window_s = 1;
  begin(experiment);
  std::mt19937_64 random(9);
  for (int second = 0; second < 6000; ++second) {
    now_ms_ += 1000;
    if (second % 10 == 0) totals_.clear();  // as the store forgets nothing, but this test has no day to spend
    count({20000, 20000}, {400, 400});
    look();
    reconciled();
  }
  // 500 by the second, then one in 1/500 of the age: 500 + 500 ln(6000 / 500).
  EXPECT_LT(state().epochs.size(), 1800u);
  EXPECT_GT(state().epochs.size(), 500u);
}

TEST_F(Allocate, FortyEpochsOfVisitorsFindTheBestArm) {
  const std::vector<double> rates{0.02, 0.03, 0.05, 0.01};
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    runtime_ = {};
    totals_.clear();
    Experiment experiment = make_bandit("hero", {2, 1, 1, 4});
    experiment.goals[0].window_s = 60;  // short epochs, so that forty are soon over
    begin(experiment);
    EXPECT_EQ(quotas(), (Quotas{2500, 1250, 1250, 5000}));
    std::mt19937_64 random(seed);
    std::uint64_t rewarded = 0, visitors = 0;
    for (int second = 0; state().epochs.size() < 40; ++second) {
      ASSERT_LT(second, 4000);
      now_ms_ += 1000;
      std::vector<std::uint64_t> n, s;
      for (std::size_t a = 0; a < rates.size(); ++a) {
        std::poisson_distribution<std::uint64_t> arrivals(std::max(1e-9, 300.0 * quotas()[a] / bandit::kSlots));
        n.push_back(arrivals(random));
        s.push_back(std::binomial_distribution<std::uint64_t>(n.back(), rates[a])(random));
        rewarded += s.back();
        visitors += n.back();
      }
      count(n, s);
      const Quotas before = quotas();
      const auto table = *bandit::decode_runs(state().runs, 4);
      const bool moves = look().new_epoch;
      reconciled();
      const auto after = *bandit::decode_runs(state().runs, 4);
      int changed = 0, distance = 0;
      for (std::size_t i = 0; i < table.size(); ++i) changed += table[i] != after[i];
      for (std::size_t a = 0; a < 4; ++a) distance += std::abs(quotas()[a] - before[a]);
      ASSERT_EQ(changed, distance / 2) << "least movement";
      ASSERT_TRUE(moves || changed == 0);
      ASSERT_EQ(std::accumulate(quotas().begin(), quotas().end(), 0), bandit::kSlots);
      ASSERT_EQ(bandit::quotas_in(after, 4), quotas());
      for (int quota : quotas()) ASSERT_GE(quota, 100) << "the floor";
    }
    EXPECT_GT(quotas()[2], 9000) << "seed " << seed;
    const double rate = static_cast<double>(rewarded) / static_cast<double>(visitors);
    EXPECT_GT(rate, 0.035) << "equal shares would have had 0.0275";
  }
}

}  // namespace
}  // namespace experiment::shared
