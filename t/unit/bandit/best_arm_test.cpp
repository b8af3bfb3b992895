#include "bandit/best_arm.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>
#include <boost/math/quadrature/gauss_kronrod.hpp>
#include <boost/math/special_functions/beta.hpp>
#include <nlohmann/json.hpp>

#include "t/unit/bandit/reference.h"

namespace experiment::bandit {
namespace {

constexpr double kAccuracy = 1e-9;  // of every probability
constexpr double kSumAccuracy = 1e-12;

double sum_of(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value;
  return sum;
}

// The definition, literally: Boost's density and distribution functions, adaptive quadrature between cuts at every
// arm's mean +- 0, 1, 3, 8 and 14 sd. Slow, and shares nothing with what it checks.
double by_definition(const std::vector<Beta>& arms, std::size_t best) {
  std::vector<double> cuts{0, 1};
  for (const Beta& arm : arms) {
    for (double z : {-14, -8, -3, -1, 0, 1, 3, 8, 14, 40}) {
      const double cut = mean(arm) + z * sd(arm);
      if (cut > 0 && cut < 1) cuts.push_back(cut);
    }
  }
  std::sort(cuts.begin(), cuts.end());
  const auto integrand = [&](double x) {
    double product = boost::math::ibeta_derivative(arms[best].alpha, arms[best].beta, x);
    for (std::size_t j = 0; j < arms.size(); ++j) {
      if (j != best) product *= boost::math::ibeta(arms[j].alpha, arms[j].beta, x);
    }
    return product;
  };
  double sum = 0;
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
    if (cuts[i + 1] - cuts[i] < 1e-15) continue;
    sum += boost::math::quadrature::gauss_kronrod<double, 31>::integrate(integrand, cuts[i], cuts[i + 1], 3, 1e-11);
  }
  return sum;
}

// P(second > first) for integer parameters (Evan Miller, Formulas for Bayesian A/B testing, eq. 6).
double two_arms_closed_form(const Beta& first, const Beta& second) {
  const auto log_beta = [](double a, double b) { return std::lgamma(a) + std::lgamma(b) - std::lgamma(a + b); };
  double sum = 0;
  for (int i = 0; i < static_cast<int>(second.alpha); ++i) {
    sum += std::exp(log_beta(first.alpha + i, first.beta + second.beta) - std::log(second.beta + i) -
                    log_beta(1 + i, second.beta) - log_beta(first.alpha, first.beta));
  }
  return sum;
}

TEST(BestArm, MatchesEveryReference) {
  const nlohmann::json entries = references();
  int cases = 0;
  for (const nlohmann::json& entry : entries) {
    if (entry["kind"] != "beta_pbest") continue;
    ++cases;
    std::vector<Beta> arms;
    for (const nlohmann::json& arm : entry["inputs"]["arms_alpha_beta"]) arms.push_back({arm[0], arm[1]});
    const BestArm best = best_arm(arms);
    EXPECT_NEAR(best.raw_sum, 1, kSumAccuracy) << entry["id"];
    for (std::size_t i = 0; i < arms.size(); ++i) {
      EXPECT_NEAR(best.probability[i], entry["expected"]["p_best"][i].get<double>(), kAccuracy)
          << entry["id"] << " " << i;
    }
  }
  EXPECT_GE(cases, 8);
}

TEST(BestArm, MatchesTheClosedFormOfTwo) {
  for (const auto& [first, second] :
       {std::pair<Beta, Beta>{{1, 1}, {2, 3}}, {{1, 1000}, {3, 998}}, {{21, 481}, {33, 469}}, {{400, 3}, {50, 2}}}) {
    EXPECT_NEAR(probability_best({first, second})[1], two_arms_closed_form(first, second), 1e-11);
  }
}

TEST(BestArm, MatchesTheDefinitionForUnevenArms) {
  std::mt19937_64 random(20);
  std::uniform_real_distribution<double> exponent(0, 6), rate(0.001, 0.2);
  for (int round = 0; round < 8; ++round) {
    std::vector<Beta> arms(2 + round % 4);
    for (Beta& arm : arms) {
      const double n = std::pow(10, exponent(random)), p = rate(random);
      arm = {1 + n * p, 1 + n * (1 - p)};
    }
    const std::vector<double> probability = probability_best(arms);
    for (std::size_t i = 0; i < arms.size(); ++i)
      EXPECT_NEAR(probability[i], by_definition(arms, i), kAccuracy) << round << " " << i;
  }
}

TEST(BestArm, RawSumIsOneForAnySampleSizes) {
  std::mt19937_64 random(21);
  std::uniform_real_distribution<double> exponent(0, 8), any(0, 1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<Beta> arms(1 + random() % 20);
    const int kind = round % 4;  // rates: anything, close together, none, almost one
    for (Beta& arm : arms) {
      const double n = std::pow(10, exponent(random)), u = any(random);
      const double p = kind == 0 ? u : kind == 1 ? 0.03 + 0.01 * u : kind == 2 ? 0 : 1 - 1e-4 * u;
      arm = {1 + n * p, 1 + n * (1 - p)};
    }
    const BestArm best = best_arm(arms);
    ASSERT_NEAR(best.raw_sum, 1, kSumAccuracy) << round;
    ASSERT_NEAR(sum_of(best.probability), 1, 1e-14 * static_cast<double>(arms.size())) << round;
    for (double p : best.probability) ASSERT_GE(p, 0) << round;
  }
}

TEST(BestArm, EqualArmsShareEqually) {
  for (const Beta& arm : {Beta{1, 1}, Beta{1, 1e6}, Beta{2.5, 40}, Beta{3e6, 97e6}}) {
    for (std::size_t count : {2, 3, 10, 20}) {
      for (double p : probability_best(std::vector<Beta>(count, arm))) {
        EXPECT_NEAR(p, 1.0 / static_cast<double>(count), 1e-14);
      }
    }
  }
}

TEST(BestArm, SymmetryOfTheComplement) {
  const std::vector<Beta> arms{{12, 400}, {90, 2400}};
  const std::vector<double> largest = probability_best(arms);
  const std::vector<double> smallest = probability_best({{400, 12}, {2400, 90}});
  EXPECT_NEAR(largest[0], smallest[1], 1e-13);
}

TEST(BestArm, CertainWinnerAndHopelessLoser) {
  const std::vector<double> probability = probability_best({{3e6, 97e6}, {4e6, 96e6}});
  EXPECT_NEAR(probability[1], 1, 1e-14);
  EXPECT_GE(probability[0], 0);
  EXPECT_LT(probability[0], 1e-14);
}

TEST(BestArm, DegenerateInputs) {
  EXPECT_EQ(probability_best({{17, 4}}), std::vector<double>{1.0});
  EXPECT_TRUE(probability_best({}).empty());
  for (const Beta& bad :
       {Beta{0, 1}, Beta{std::nan(""), 1}, Beta{1, std::numeric_limits<double>::infinity()}, Beta{-3, 2}}) {
    const BestArm best = best_arm({{1, 1}, bad});
    EXPECT_TRUE(std::isnan(best.raw_sum));
    for (double p : best.probability) EXPECT_TRUE(std::isnan(p));
  }
}

// 10 arms take some 40 to 130 microseconds at -O2; the bound leaves room for a sanitizer and a busy machine, yet not
// for an incomplete beta function at every node (10 ms).
TEST(BestArm, TenArmsAreFast) {
  std::vector<Beta> arms;
  for (int i = 0; i < 10; ++i) {
    const double n = std::pow(10, 0.5 + 0.8 * i);
    arms.push_back({1 + n * 0.03, 1 + n * 0.97});
  }
  auto fastest = std::chrono::nanoseconds::max();
  for (int i = 0; i < 20; ++i) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_NEAR(best_arm(arms).raw_sum, 1, kSumAccuracy);
    fastest = std::min(fastest, std::chrono::nanoseconds(std::chrono::steady_clock::now() - start));
  }
  EXPECT_LT(fastest, std::chrono::milliseconds(5));
}

}  // namespace
}  // namespace experiment::bandit
