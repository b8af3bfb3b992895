#include "bandit/policy.h"

#include <cmath>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "bandit/best_arm.h"
#include "t/unit/bandit/reference.h"

namespace experiment::bandit {
namespace {

constexpr double kDay = 86400;
constexpr double kRounding = 1e-12;

// The defaults of the document for two arms, but for the floor.
Policy policy_with(double floor) {
  Policy policy;
  policy.kind = PolicyKind::kThompson;
  policy.floor = floor;
  return policy;
}

double sum_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

void expect_near(const std::vector<double>& values, const std::vector<double>& expected) {
  ASSERT_EQ(values.size(), expected.size());
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected[i], kRounding) << i;
}

TEST(Floor, MatchesTheReference) {
  const nlohmann::json entry = reference("floor");
  const std::vector<double> p = entry["inputs"]["p"], expected = entry["expected"]["affine"];
  const std::vector<double> weights = apply_floor(p, std::vector<bool>(p.size(), true), entry["inputs"]["floor"]);
  for (std::size_t i = 0; i < p.size(); ++i) {
    EXPECT_NEAR(weights[i], expected[i], entry["tolerance"]["abs"].get<double>());
  }
}

TEST(Floor, EveryArmKeepsItAndTheSumIsOne) {
  for (const double floor : {0.0, 0.01, 0.2, 0.25}) {
    const std::vector<double> weights = apply_floor({0, 1, 0, 0}, std::vector<bool>(4, true), floor);
    EXPECT_NEAR(sum_of(weights), 1, kRounding);
    for (double weight : weights) EXPECT_GE(weight, floor);
  }
}

TEST(Floor, ThatDoesNotFitIsUniform) {
  expect_near(apply_floor({0.9, 0.1, 0}, {true, true, false}, 0.6), {0.5, 0.5, 0});
  expect_near(apply_floor({0.7, 0.2, 0.1}, {true, true, true}, 1.0 / 3), {1.0 / 3, 1.0 / 3, 1.0 / 3});
}

TEST(StepLimit, StopsOnTheStraightLine) {
  expect_near(limit_step({0.5, 0.3, 0.2}, {0.1, 0.3, 0.6}, 0.1), {0.4, 0.3, 0.3});
  expect_near(limit_step({0.5, 0.5}, {0.45, 0.55}, 0.1), {0.45, 0.55});
  expect_near(limit_step({0.5, 0.5}, {0.5, 0.5}, 0), {0.5, 0.5});
  expect_near(limit_step({0.5, 0.5}, {0.1, 0.9}, 0), {0.5, 0.5});
}

TEST(WarmUp, UsesTheDocumentsWeightsUntilEveryArmHasEnough) {
  const Policy policy = policy_with(0.05);
  const std::vector<double> declared{3, 1};
  const auto phase = [&](std::uint64_t n, std::uint64_t s, double elapsed) {
    const Decision decision = thompson(policy, false, declared, {}, {{0, {5000, n}, {100, s}}}, elapsed);
    EXPECT_EQ(decision.phase == Phase::kWarmingUp, warming_up(policy, declared, {{0, {5000, n}, {100, s}}}, elapsed));
    if (decision.phase == Phase::kWarmingUp) {
      expect_near(decision.weights, {0.75, 0.25});
      EXPECT_TRUE(decision.p_best.empty());
    }
    return decision.phase;
  };
  EXPECT_EQ(phase(99, 25, kDay), Phase::kWarmingUp);
  EXPECT_EQ(phase(100, 24, kDay), Phase::kWarmingUp);
  EXPECT_EQ(phase(100, 25, kDay - 1), Phase::kWarmingUp);
  EXPECT_EQ(phase(100, 25, kDay), Phase::kLearning);
  EXPECT_EQ(thompson(policy, false, declared, {}, {}, 0).phase, Phase::kWarmingUp);
  EXPECT_EQ(thompson(policy, false, declared, {}, {}, 10 * kDay).phase, Phase::kWarmingUp);
}

TEST(WarmUp, DoesNotWaitForArmsWithoutWeight) {
  const Decision decision =
      thompson(policy_with(0), false, {1, 0, 1}, {0.4, 0.3, 0.3}, {{0, {1000, 3, 1000}, {40, 0, 50}}}, kDay);
  EXPECT_EQ(decision.phase, Phase::kLearning);
  EXPECT_EQ(decision.weights[1], 0);
  EXPECT_EQ(decision.p_best[1], 0);
  EXPECT_NEAR(sum_of(decision.weights), 1, kRounding);
}

TEST(WarmUp, OnceOverStaysOverWhenTheRingDropsEpochs) {
  // A poor arm at its floor: 50 exposures and no success in any epoch that is left.
  std::vector<EpochCounts> epochs(kEstablishedEpochs, {100, {950, 50}, {30, 0}});
  EXPECT_EQ(thompson(policy_with(0.05), false, {1, 1}, {0.95, 0.05}, epochs, 90 * kDay).phase, Phase::kLearning);
  epochs.pop_back();
  EXPECT_EQ(thompson(policy_with(0.05), false, {1, 1}, {0.95, 0.05}, epochs, 90 * kDay).phase, Phase::kWarmingUp);
}

TEST(Thompson, IsTheProbabilityOfBeingBestAboveTheFloor) {
  const Decision decision =
      thompson(policy_with(0.05), false, {1, 1, 1}, {}, {{0, {500, 500, 500}, {26, 25, 32}}}, kDay);
  const std::vector<double> p = probability_best({{27, 475}, {26, 476}, {33, 469}});
  ASSERT_EQ(decision.phase, Phase::kLearning);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(decision.p_best[i], p[i], 1e-10);
    EXPECT_NEAR(decision.weights[i], 0.05 + 0.85 * p[i], 1e-10);
  }
}

TEST(Thompson, SmallerIsBetterTurnsTheOrderRound) {
  const std::vector<EpochCounts> epochs{{0, {800, 800}, {40, 60}}};
  const Decision up = thompson(policy_with(0), false, {1, 1}, {}, epochs, kDay);
  const Decision down = thompson(policy_with(0), true, {1, 1}, {}, epochs, kDay);
  EXPECT_GT(up.weights[1], 0.9);
  EXPECT_NEAR(down.weights[0], up.weights[1], 1e-10);
}

TEST(Thompson, ComparesWithinEpochsOnly) {
  // Pooled means rank arm 0 first, the epochs arm 1: adjusted_counts_simpson_reversal.
  const nlohmann::json inputs = reference("adjusted_counts_simpson_reversal")["inputs"];
  std::vector<EpochCounts> epochs;
  for (std::size_t e = 0; e < inputs["n"].size(); ++e) {
    epochs.push_back(
        {0, inputs["n"][e].get<std::vector<std::uint64_t>>(), inputs["S"][e].get<std::vector<std::uint64_t>>()});
  }
  const Decision decision = thompson(policy_with(0), false, {1, 1}, {}, epochs, kDay);
  EXPECT_GT(decision.weights[1], 0.5);
}

TEST(Thompson, LearnWindowAdmitsOldEpochsOnly) {
  Policy policy = policy_with(0);
  const std::vector<EpochCounts> epochs{
      {7200, {1000, 1000}, {80, 50}}, {3599, {1000, 1000}, {10, 400}}, {0, {9, 9}, {0, 9}}};
  policy.learn_window_s = 3600;
  EXPECT_GT(thompson(policy, false, {1, 1}, {}, epochs, kDay).weights[0], 0.99);
  policy.learn_window_s = 0;
  EXPECT_LT(thompson(policy, false, {1, 1}, {}, epochs, kDay).weights[0], 0.01);
  policy.learn_window_s = 7201;  // nothing entered yet: the warm-up is over, and still there is nothing to go by
  const Decision none = thompson(policy, false, {2, 1}, {}, epochs, kDay);
  EXPECT_FALSE(warming_up(policy, {2, 1}, epochs, kDay));
  EXPECT_EQ(none.phase, Phase::kWarmingUp);
  expect_near(none.weights, {2.0 / 3, 1.0 / 3});
}

TEST(Thompson, NewcomerWaitsAtItsShareWhileTheOthersLearn) {
  const std::vector<EpochCounts> epochs{{600, {5000, 5000}, {200, 300}}, {0, {300, 900, 90}, {12, 54, 8}}};
  const Decision decision = thompson(policy_with(0.05), false, {1, 1, 1}, {0.1, 0.9}, epochs, 2 * kDay);
  EXPECT_EQ(decision.phase, Phase::kLearning);
  EXPECT_NEAR(decision.weights[2], 1.0 / 3, kRounding);
  EXPECT_NEAR(decision.weights[0], 0.05, 1e-3);
  EXPECT_EQ(decision.p_best[2], 0);
  EXPECT_NEAR(sum_of(decision.weights), 1, kRounding);
}

TEST(Thompson, NewcomerJoinsWithTheWarmUpsCounts) {
  const std::vector<EpochCounts> epochs{{600, {5000, 5000}, {200, 300}}, {0, {300, 900, 400}, {12, 54, 60}}};
  const Decision decision = thompson(policy_with(0.05), false, {1, 1, 1}, {0.1, 0.6, 0.3}, epochs, 2 * kDay);
  EXPECT_GT(decision.weights[2], 0.85);
}

TEST(Thompson, NewcomerThatHasSeenNothingWaitsToo) {
  const std::vector<EpochCounts> epochs{{600, {5000, 5000}, {200, 300}}};
  EXPECT_NEAR(thompson(policy_with(0.05), false, {1, 1, 1}, {0.1, 0.9}, epochs, 2 * kDay).weights[2], 1.0 / 3,
              kRounding);
}

TEST(Thompson, ResumedArmKeepsNobodyWaiting) {
  const std::vector<EpochCounts> epochs{{900, {5000, 5000, 200}, {200, 300, 3}}, {0, {400, 4000, 0}, {20, 240, 0}}};
  const Decision decision = thompson(policy_with(0.05), false, {1, 1, 1}, {0.1, 0.9, 0}, epochs, 2 * kDay);
  EXPECT_EQ(decision.phase, Phase::kLearning);
  EXPECT_NEAR(decision.weights[2], 1.0 / 3, kRounding);
}

TEST(Thompson, StepLimitHoldsForEveryStep) {
  Policy policy = policy_with(0.05);
  policy.step_limit = 0.1;
  const std::vector<EpochCounts> epochs{{0, {5000, 5000}, {100, 400}}};
  expect_near(thompson(policy, false, {1, 1}, {0.5, 0.5}, epochs, kDay).weights, {0.4, 0.6});
  policy.step_limit = 1;
  EXPECT_NEAR(thompson(policy, false, {1, 1}, {0.5, 0.5}, epochs, kDay).weights[1], 0.95, 1e-10);
}

TEST(Thompson, ArmWithoutWeightIsEmptyAtOnceDespiteTheStepLimit) {
  Policy policy = policy_with(0);
  policy.step_limit = 0;
  const Decision decision =
      thompson(policy, false, {1, 1, 0}, {0.3, 0.2, 0.5}, {{0, {3000, 2000, 5000}, {90, 60, 150}}}, kDay);
  expect_near(decision.weights, {0.6, 0.4, 0});
}

TEST(Thompson, OneArmWithWeightGetsEverything) {
  const std::vector<EpochCounts> epochs{{0, {500, 500}, {40, 50}}};
  expect_near(thompson(policy_with(0.05), false, {0, 7}, {0.5, 0.5}, epochs, kDay).weights, {0, 1});
}

TEST(Thompson, UnusableInputsHoldTheLastAllocation) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  const std::vector<EpochCounts> epochs{{0, {5000, 5000}, {100, 400}}};
  const std::vector<double> current{0.7, 0.3};
  const auto expect_held = [&](const Policy& policy, const std::vector<double>& declared, double elapsed) {
    const Decision decision = thompson(policy, false, declared, current, epochs, elapsed);
    EXPECT_EQ(decision.phase, Phase::kHeld);
    expect_near(decision.weights, current);
  };
  expect_held(policy_with(nan), {1, 1}, kDay);
  expect_held(policy_with(infinity), {1, 1}, kDay);
  expect_held(policy_with(0), {1, nan}, kDay);
  expect_held(policy_with(0), {1, -1}, kDay);
  expect_held(policy_with(0), {infinity, 1}, kDay);
  expect_held(policy_with(0), {1, 1}, nan);
  Policy limited = policy_with(0);
  limited.step_limit = nan;
  expect_held(limited, {1, 1}, kDay);
  const Decision aged = thompson(policy_with(0), false, {1, 1}, current, {{nan, {5000, 5000}, {100, 400}}}, kDay);
  EXPECT_EQ(aged.phase, Phase::kHeld);
}

TEST(Thompson, UnusableCurrentWeightsAreIgnored) {
  const std::vector<EpochCounts> epochs{{0, {5000, 5000}, {100, 400}}};
  for (const std::vector<double>& current : {std::vector<double>{}, {0, 0}, {std::nan(""), 1}, {-1, 2}}) {
    const Decision decision = thompson(policy_with(0.05), false, {1, 1}, current, epochs, kDay);
    EXPECT_EQ(decision.phase, Phase::kLearning);
    EXPECT_NEAR(decision.weights[1], 0.95, 1e-10);
  }
}

TEST(Thompson, NoArmWithWeightIsHeldAtNothing) {
  const Decision decision = thompson(policy_with(0), false, {0, 0}, {0.5, 0.5}, {}, kDay);
  EXPECT_EQ(decision.phase, Phase::kHeld);
  EXPECT_EQ(decision.weights, (std::vector<double>{0, 0}));
}

TEST(Thompson, SurvivesTheLargestCounts) {
  const std::uint64_t huge = std::numeric_limits<std::uint64_t>::max();
  const Decision decision = thompson(policy_with(0.05), false, {1, 1}, {0.5, 0.5}, {{0, {huge, 10}, {huge, 10}}}, kDay);
  EXPECT_NEAR(sum_of(decision.weights), 1, kRounding);
  for (double weight : decision.weights) EXPECT_GE(weight, 0.05);
}

TEST(Phase, Tokens) {
  EXPECT_EQ(phase_token(Phase::kWarmingUp), "warming_up");
  EXPECT_EQ(phase_token(Phase::kLearning), "learning");
  EXPECT_EQ(phase_token(Phase::kHeld), "held");
}

}  // namespace
}  // namespace experiment::bandit
