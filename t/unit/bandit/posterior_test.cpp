#include "bandit/posterior.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "t/unit/bandit/reference.h"

namespace experiment::bandit {
namespace {

TEST(Posterior, NoDataEqualsPrior) {
  const Beta updated = posterior({2, 5}, 0, 0);
  EXPECT_EQ(updated.alpha, 2);
  EXPECT_EQ(updated.beta, 5);
}

TEST(Posterior, AddsFractionalCountsToThePrior) {
  const Beta updated = posterior({1, 1}, 12.25, 87.5);
  EXPECT_DOUBLE_EQ(updated.alpha, 13.25);
  EXPECT_DOUBLE_EQ(updated.beta, 88.5);
  EXPECT_DOUBLE_EQ(mean(updated), 13.25 / 101.75);
}

TEST(Posterior, MomentsOfTheUniform) {
  EXPECT_DOUBLE_EQ(mean({1, 1}), 0.5);
  EXPECT_DOUBLE_EQ(sd({1, 1}), std::sqrt(1.0 / 12));
}

TEST(Posterior, QuantilesMatchTheReference) {
  const nlohmann::json entry = reference("beta_credible_intervals");
  const double tolerance = entry["tolerance"]["abs"];
  const nlohmann::json& params = entry["inputs"]["params"];
  const nlohmann::json& levels = entry["inputs"]["q"];
  for (std::size_t i = 0; i < params.size(); ++i) {
    const Beta beta{params[i][0], params[i][1]};
    for (std::size_t j = 0; j < levels.size(); ++j) {
      EXPECT_NEAR(quantile(beta, levels[j]), entry["expected"]["values"][i][j].get<double>(), tolerance);
    }
    const Interval interval = credible_interval(beta, 0.95);
    EXPECT_NEAR(interval.low, entry["expected"]["values"][i][0].get<double>(), tolerance);
    EXPECT_NEAR(interval.high, entry["expected"]["values"][i][2].get<double>(), tolerance);
  }
}

TEST(Posterior, QuantilesStayFiniteAtAHundredMillionCounts) {
  const Beta beta{3e6, 97e6};
  const Interval interval = credible_interval(beta, 0.95);
  // The normal approximation's relative error is of the order of the skewness, 1e-3.
  EXPECT_NEAR(interval.high - interval.low, 2 * 1.959964 * sd(beta), 1e-3 * sd(beta));
  EXPECT_DOUBLE_EQ(quantile(beta, 0), 0);
  EXPECT_DOUBLE_EQ(quantile(beta, 1), 1);
}

TEST(Posterior, ImproperInputsGiveNaN) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(std::isnan(quantile({0, 1}, 0.5)));
  EXPECT_TRUE(std::isnan(quantile({1, infinity}, 0.5)));
  EXPECT_TRUE(std::isnan(quantile({1, 1}, 1.5)));
  EXPECT_TRUE(std::isnan(quantile({1, 1}, std::nan(""))));
  EXPECT_TRUE(std::isnan(credible_interval({-1, 1}, 0.9).high));
  EXPECT_FALSE(is_proper({1, std::nan("")}));
  EXPECT_TRUE(is_proper({0.5, 1e12}));
}

}  // namespace
}  // namespace experiment::bandit
