#include "bandit/adjusted_counts.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace experiment::bandit {
namespace {

constexpr double kLeastRate = 1e-4;    // of an adjusted rate, which is no proportion and may leave [0, 1]
constexpr double kLeastPivot = 1e-12;  // relative; below it a system counts as singular

using Matrix = std::vector<std::vector<double>>;
using Group = std::vector<std::size_t>;  // arms, ascending

// Sums over the epochs, by arm.
struct Sums {
  std::vector<double> n, s;
  Matrix a;  // A of the header
  std::vector<double> b;
  std::vector<std::size_t> connected;  // lowest arm of the group that each arm belongs to

  explicit Sums(std::size_t arms)
      : n(arms, 0.0), s(arms, 0.0), a(arms, std::vector<double>(arms, 0.0)), b(arms, 0.0), connected(arms) {
    std::iota(connected.begin(), connected.end(), std::size_t{0});
  }

  void connect(std::size_t one, std::size_t other) {
    const std::size_t from = std::max(connected[one], connected[other]);
    const std::size_t to = std::min(connected[one], connected[other]);
    std::replace(connected.begin(), connected.end(), from, to);
  }

  void add(const EpochArms& epoch, double factor) {
    const std::size_t arms = std::min({n.size(), epoch.n.size(), epoch.s.size()});
    double epoch_n = 0, epoch_s = 0;
    for (std::size_t i = 0; i < arms; ++i) {
      if (epoch.n[i] == 0) continue;  // not in this epoch; a reward without an exposure has nothing to belong to
      epoch_n += factor * epoch.n[i];
      epoch_s += factor * epoch.s[i];
    }
    for (std::size_t i = 0; i < arms; ++i) {
      if (epoch.n[i] == 0) continue;
      const double n_i = factor * epoch.n[i], s_i = factor * epoch.s[i];
      n[i] += n_i;
      s[i] += s_i;
      b[i] += s_i - n_i * (epoch_s / epoch_n);
      for (std::size_t j = 0; j < arms; ++j) {
        if (j == i || epoch.n[j] == 0) continue;
        // The diagonal is minus the sum of its row, so that an arm alone in its epochs gets an exact zero.
        const double common = n_i * (factor * epoch.n[j] / epoch_n);
        a[i][j] -= common;
        a[i][i] += common;
        connect(i, j);
      }
    }
  }
};

// Solves the symmetric positive definite system in place by Cholesky; false where it is not one.
bool solve(Matrix& a, std::vector<double>& b) {
  const std::size_t size = b.size();
  double largest = 0;
  for (std::size_t i = 0; i < size; ++i) largest = std::max(largest, a[i][i]);
  for (std::size_t j = 0; j < size; ++j) {
    for (std::size_t k = 0; k < j; ++k) a[j][j] -= a[j][k] * a[j][k];
    if (!(a[j][j] > kLeastPivot * largest)) return false;
    a[j][j] = std::sqrt(a[j][j]);
    for (std::size_t i = j + 1; i < size; ++i) {
      for (std::size_t k = 0; k < j; ++k) a[i][j] -= a[i][k] * a[j][k];
      a[i][j] /= a[j][j];
    }
  }
  for (std::size_t i = 0; i < size; ++i) {
    for (std::size_t k = 0; k < i; ++k) b[i] -= a[i][k] * b[k];
    b[i] /= a[i][i];
  }
  for (std::size_t i = size; i-- > 0;) {
    for (std::size_t k = i + 1; k < size; ++k) b[i] -= a[k][i] * b[k];
    b[i] /= a[i][i];
  }
  return true;
}

// Effects and rates of one connected group, all of whose arms have exposures.
void fit(const Sums& sums, const Group& group, std::vector<AdjustedArm>& out) {
  const std::size_t size = group.size();
  double n = 0, s = 0;
  for (std::size_t arm : group) {
    n += sums.n[arm];
    s += sums.s[arm];
  }
  const double tie = n / static_cast<double>(size * size);  // N/K^2: any positive number would force sum d = 0
  Matrix a(size, std::vector<double>(size));
  std::vector<double> d(size);
  for (std::size_t i = 0; i < size; ++i) {
    d[i] = sums.b[group[i]];
    for (std::size_t j = 0; j < size; ++j) a[i][j] = sums.a[group[i]][group[j]] + tie;
  }
  if (!solve(a, d)) {
    for (std::size_t i = 0; i < size; ++i) d[i] = sums.s[group[i]] / sums.n[group[i]] - s / n;
  }
  double mu = s;
  for (std::size_t i = 0; i < size; ++i) mu -= sums.n[group[i]] * d[i];
  mu /= n;
  for (std::size_t i = 0; i < size; ++i) {
    out[group[i]].effect = d[i];
    out[group[i]].rate = std::clamp(mu + d[i], kLeastRate, 1 - kLeastRate);
  }
}

// kappa. At most 1 by Jensen's inequality; rounding may exceed it.
double efficiency_of(double a_aa, double n_a, double n) {
  if (n_a == n) return 1;
  return std::min(1.0, a_aa / (n_a * (1 - n_a / n)));
}

}  // namespace

std::vector<AdjustedArm> adjusted_counts(const std::vector<EpochArms>& epochs, std::size_t arms, const Beta& prior,
                                         double daily_discount) {
  Sums sums(arms);
  for (const EpochArms& epoch : epochs) {
    sums.add(epoch, daily_discount == 1 ? 1 : std::pow(daily_discount, epoch.age_days));
  }
  std::vector<AdjustedArm> out(arms);
  for (std::size_t first = 0; first < arms; ++first) {
    if (sums.connected[first] != first || sums.n[first] == 0) continue;
    Group group;
    for (std::size_t arm = first; arm < arms; ++arm) {
      if (sums.connected[arm] == first) group.push_back(arm);
    }
    fit(sums, group, out);
  }
  const double total = std::accumulate(sums.n.begin(), sums.n.end(), 0.0);
  for (std::size_t i = 0; i < arms; ++i) {
    AdjustedArm& arm = out[i];
    arm.n = sums.n[i];
    arm.posterior = prior;
    if (arm.n == 0) {
      arm.rate = mean(prior);
      continue;
    }
    arm.efficiency = efficiency_of(sums.a[i][i], arm.n, total);
    const double n = arm.efficiency * arm.n;
    arm.posterior = posterior(prior, n * arm.rate, n * (1 - arm.rate));
  }
  return out;
}

}  // namespace experiment::bandit
