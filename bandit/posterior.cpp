#include "bandit/posterior.h"

#include <cmath>
#include <limits>

#include <boost/math/policies/policy.hpp>
#include <boost/math/special_functions/beta.hpp>

namespace experiment::bandit {
namespace {

// Errors come back as NaN or infinity, never as exceptions; double throughout, as long double costs ten times more for
// nothing here.
using Quiet =
    boost::math::policies::policy<boost::math::policies::domain_error<boost::math::policies::ignore_error>,
                                  boost::math::policies::pole_error<boost::math::policies::ignore_error>,
                                  boost::math::policies::overflow_error<boost::math::policies::ignore_error>,
                                  boost::math::policies::evaluation_error<boost::math::policies::ignore_error>,
                                  boost::math::policies::promote_double<false>>;

}  // namespace

Beta posterior(const Beta& prior, double successes, double failures) noexcept {
  return {prior.alpha + successes, prior.beta + failures};
}

double mean(const Beta& beta) noexcept {
  return beta.alpha / (beta.alpha + beta.beta);
}

double sd(const Beta& beta) noexcept {
  const double total = beta.alpha + beta.beta;
  return std::sqrt(beta.alpha / total * (beta.beta / total) / (total + 1));
}

double quantile(const Beta& beta, double q) noexcept {
  if (!is_proper(beta) || !(q >= 0 && q <= 1)) return std::numeric_limits<double>::quiet_NaN();
  return boost::math::ibeta_inv(beta.alpha, beta.beta, q, Quiet());
}

Interval credible_interval(const Beta& beta, double level) noexcept {
  const double tail = (1 - level) / 2;
  return {quantile(beta, tail), quantile(beta, 1 - tail)};
}

bool is_proper(const Beta& beta) noexcept {
  return std::isfinite(beta.alpha) && std::isfinite(beta.beta) && beta.alpha > 0 && beta.beta > 0;
}

}  // namespace experiment::bandit
