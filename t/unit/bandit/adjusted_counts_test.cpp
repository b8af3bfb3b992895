#include "bandit/adjusted_counts.h"

#include <cmath>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "t/unit/bandit/reference.h"

namespace experiment::bandit {
namespace {

// Solving and summing in another order moves the last digits.
constexpr double kRounding = 1e-12;

std::vector<EpochArms> epochs_of(const nlohmann::json& inputs) {
  std::vector<EpochArms> epochs;
  for (std::size_t e = 0; e < inputs.at("n").size(); ++e) {
    epochs.push_back({inputs["n"][e].get<std::vector<double>>(), inputs["S"][e].get<std::vector<double>>(), 0});
  }
  return epochs;
}

void expect_reference(const std::string& id) {
  const nlohmann::json entry = reference(id);
  const nlohmann::json& expected = entry["expected"];
  const double relative = entry["tolerance"]["rel"];
  const std::vector<AdjustedArm> arms = adjusted_counts(epochs_of(entry["inputs"]), 2);
  const auto expect = [&](double value, const nlohmann::json& reference) {
    EXPECT_NEAR(value, reference.get<double>(), relative * std::fabs(reference.get<double>())) << id;
  };
  for (std::size_t i = 0; i < 2; ++i) {
    expect(arms[i].effect, expected["d"][i]);
    expect(arms[i].rate, expected["mean"][i]);
    expect(arms[i].efficiency, expected["kappa"][i]);
    expect(arms[i].posterior.alpha, expected["alpha"][i]);
    expect(arms[i].posterior.beta, expected["beta"][i]);
  }
}

TEST(AdjustedCounts, UndoTheSimpsonReversal) {
  expect_reference("adjusted_counts_simpson_reversal");
}

TEST(AdjustedCounts, ConstantSharesEqualPooledCounts) {
  expect_reference("adjusted_counts_constant_shares");
  const std::vector<AdjustedArm> arms =
      adjusted_counts({{{100, 300, 600}, {3, 12, 30}}, {{10, 30, 60}, {2, 5, 4}}, {{1, 3, 6}, {0, 1, 0}}}, 3);
  const std::vector<double> n{111, 333, 666}, s{5, 18, 34};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(arms[i].efficiency, 1, kRounding);
    EXPECT_NEAR(arms[i].posterior.alpha, 1 + s[i], 1e-10);
    EXPECT_NEAR(arms[i].posterior.beta, 1 + n[i] - s[i], 1e-10);
  }
}

// Rates that are exactly epoch + arm are recovered whatever the shares are.
TEST(AdjustedCounts, RecoverAnAdditiveModelExactly) {
  const std::vector<double> effect{-0.02, 0.005, 0.015}, level{0.05, 0.3, 0.12, 0.08};
  const std::vector<std::vector<double>> n{{1000, 10, 300}, {20, 4000, 50}, {0, 500, 700}, {600, 90, 0}};
  std::vector<EpochArms> epochs;
  double total_n = 0, total_level = 0;
  for (std::size_t e = 0; e < n.size(); ++e) {
    EpochArms epoch;
    epoch.n = n[e];
    for (std::size_t i = 0; i < 3; ++i) {
      epoch.s.push_back(n[e][i] * (level[e] + effect[i]));
      total_n += n[e][i];
      total_level += n[e][i] * level[e];
    }
    epochs.push_back(epoch);
  }
  const std::vector<AdjustedArm> arms = adjusted_counts(epochs, 3);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(arms[i].effect, effect[i], kRounding);
    EXPECT_NEAR(arms[i].rate, total_level / total_n + effect[i], kRounding);
    EXPECT_GT(arms[i].efficiency, 0);
    EXPECT_LT(arms[i].efficiency, 1);
  }
}

TEST(AdjustedCounts, NoDataIsThePrior) {
  for (const std::vector<EpochArms>& epochs : {std::vector<EpochArms>{}, {{{}, {}}}, {{{0, 0}, {0, 0}}}}) {
    for (const AdjustedArm& arm : adjusted_counts(epochs, 2, {2, 6})) {
      EXPECT_EQ(arm.posterior.alpha, 2);
      EXPECT_EQ(arm.posterior.beta, 6);
      EXPECT_EQ(arm.efficiency, 0);
      EXPECT_EQ(arm.rate, 0.25);
    }
  }
  EXPECT_TRUE(adjusted_counts({}, 0).empty());
}

TEST(AdjustedCounts, ArmWithoutExposuresKeepsThePriorAndChangesNothing) {
  const std::vector<AdjustedArm> two = adjusted_counts({{{500, 500}, {20, 30}}, {{100, 900}, {5, 60}}}, 2);
  const std::vector<AdjustedArm> three = adjusted_counts({{{500, 500}, {20, 30}}, {{100, 900, 0}, {5, 60, 0}}}, 3);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_DOUBLE_EQ(three[i].posterior.alpha, two[i].posterior.alpha);
    EXPECT_DOUBLE_EQ(three[i].posterior.beta, two[i].posterior.beta);
  }
  EXPECT_EQ(three[2].posterior.alpha, 1);
  EXPECT_EQ(three[2].posterior.beta, 1);
}

TEST(AdjustedCounts, OnlyArmWithExposuresIsPooled) {
  const std::vector<AdjustedArm> arms = adjusted_counts({{{400, 0}, {10, 0}}, {{100, 0}, {15, 0}}}, 2);
  EXPECT_NEAR(arms[0].posterior.alpha, 26, 1e-10);
  EXPECT_NEAR(arms[0].posterior.beta, 476, 1e-10);
  EXPECT_EQ(arms[1].posterior.alpha, 1);
}

TEST(AdjustedCounts, ArmNeverBesideAnotherKeepsThePrior) {
  const std::vector<AdjustedArm> arms = adjusted_counts({{{500, 500, 0}, {20, 30, 0}}, {{0, 0, 800}, {0, 0, 90}}}, 3);
  EXPECT_EQ(arms[2].efficiency, 0);
  EXPECT_EQ(arms[2].posterior.alpha, 1);
  EXPECT_EQ(arms[2].posterior.beta, 1);
  EXPECT_NEAR(arms[0].rate, 0.04, kRounding);
  EXPECT_NEAR(arms[1].rate, 0.06, kRounding);
}

TEST(AdjustedCounts, GroupsWithoutACommonEpochAreSolvedApart) {
  const std::vector<AdjustedArm> arms =
      adjusted_counts({{{500, 500, 0, 0}, {20, 30, 0, 0}}, {{0, 0, 300, 100}, {0, 0, 30, 20}}}, 4);
  EXPECT_NEAR(arms[0].rate, 0.04, kRounding);
  EXPECT_NEAR(arms[1].rate, 0.06, kRounding);
  EXPECT_NEAR(arms[2].rate, 0.1, kRounding);
  EXPECT_NEAR(arms[3].rate, 0.2, kRounding);
  for (const AdjustedArm& arm : arms) {
    EXPECT_GT(arm.efficiency, 0);
    EXPECT_LT(arm.efficiency, 1);
    EXPECT_TRUE(is_proper(arm.posterior));
  }
}

TEST(AdjustedCounts, HugeAndTinyCountsStayProper) {
  const std::vector<AdjustedArm> arms =
      adjusted_counts({{{1e13, 0, 1}, {1e12, 0, 1}}, {{0, 1e13, 1}, {0, 2e12, 0}}, {{1e8, 1, 0}, {0, 1, 0}}}, 3);
  for (const AdjustedArm& arm : arms) {
    EXPECT_TRUE(is_proper(arm.posterior));
    EXPECT_GE(arm.posterior.alpha, 1);
    EXPECT_GE(arm.posterior.beta, 1);
    EXPECT_GE(arm.efficiency, 0);
    EXPECT_LE(arm.efficiency, 1);
  }
}

TEST(AdjustedCounts, RatesAreClipped) {
  const std::vector<AdjustedArm> arms = adjusted_counts({{{1000, 1000}, {0, 1000}}}, 2);
  EXPECT_DOUBLE_EQ(arms[0].rate, 1e-4);
  EXPECT_DOUBLE_EQ(arms[1].rate, 1 - 1e-4);
}

TEST(AdjustedCounts, DiscountWeighsEpochsByAge) {
  const std::vector<EpochArms> aged{{{800, 200}, {80, 30}, 2}, {{100, 500}, {9, 40}, 0}};
  const std::vector<EpochArms> scaled{{{800 * 0.81, 200 * 0.81}, {80 * 0.81, 30 * 0.81}}, {{100, 500}, {9, 40}}};
  const std::vector<AdjustedArm> discounted = adjusted_counts(aged, 2, {1, 1}, 0.9), plain = adjusted_counts(scaled, 2);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_NEAR(discounted[i].posterior.alpha, plain[i].posterior.alpha, 1e-10);
    EXPECT_NEAR(discounted[i].posterior.beta, plain[i].posterior.beta, 1e-10);
  }
}

}  // namespace
}  // namespace experiment::bandit
