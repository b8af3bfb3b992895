// Belief about a conversion rate: a Beta distribution, from a prior and counts that may be fractional.
//
// Pure values, called by the allocator and by reports; no locking. Prior and counts stay apart until they meet here, so
// that a prior is never counted twice. All rates are in [0, 1].
#pragma once

namespace experiment::bandit {

struct Beta {
  double alpha = 1;  // prior successes + successes
  double beta = 1;   // prior failures + failures
};

struct Interval {
  double low = 0;
  double high = 0;
};

// Conjugate update (Gelman et al., Bayesian Data Analysis, 2013, eq. 2.3). Requires: successes, failures >= 0.
Beta posterior(const Beta& prior, double successes, double failures) noexcept;

// alpha / (alpha + beta).
double mean(const Beta& beta) noexcept;
// sqrt(m (1 - m) / (alpha + beta + 1)), m the mean.
double sd(const Beta& beta) noexcept;

// The rate below which a share q of the belief lies. NaN unless q is in [0, 1] and both parameters are finite and
// positive.
double quantile(const Beta& beta, double q) noexcept;
// Equal-tailed credible interval that holds `level` of the belief, 0 < level < 1; NaN as in quantile().
Interval credible_interval(const Beta& beta, double level) noexcept;

// Both parameters finite and positive: what every function here needs.
bool is_proper(const Beta& beta) noexcept;

}  // namespace experiment::bandit
