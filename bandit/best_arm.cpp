#include "bandit/best_arm.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>

#include <boost/math/constants/constants.hpp>
#include <boost/math/special_functions/legendre.hpp>

// How it works. P(best) does not change when all rates are mapped by one increasing function, so everything happens in
// y = logit(x). There a Beta density is analytic and log-concave with light tails on the whole line, also where it has
// x^0.3 at zero in x:
//
//   log g(y) = alpha y - (alpha + beta) log(1 + e^y) + constant
//   peak = logit(m), m = alpha / (alpha + beta);  width = sqrt(1/alpha + 1/beta), from the curvature at the peak
//
// The line is cut into panels, common to all arms, each at most kStep widths of every arm that is active in it. So a
// narrow arm beside a wide one is never missed, which breaks every rule with a fixed number of nodes. In a panel the
// densities are taken at the nodes of Gauss-Legendre; distribution functions are the integrals of the polynomials
// through these values, kept from panel to panel. This costs an exp per arm and node, where an incomplete beta function
// would cost a hundred times that.
namespace experiment::bandit {
namespace {

constexpr std::size_t kNodes = 16;
constexpr double kStep = 1.5;     // longest panel, in widths of an arm
constexpr double kLongest = 2.0;  // and in y: the poles of g are at distance pi from the real line
constexpr double kLogCut = 38;    // an arm ends where its density is below e^-kLogCut of the peak
constexpr double kLeastShape = 0.5;
constexpr double kMostShape = 1e12;

// Panels begin and end on a grid of 2^-44. So centres, half lengths and distances to a peak are exact, and neighbouring
// panels agree on where an arm is: at 1e8 counts, where a width is 1e-4, plain doubles leave gaps that cost 1e-11.
double on_grid(double y) {
  return std::nearbyint(y * 0x1p44) * 0x1p-44;
}

using Nodes = std::array<double, kNodes>;

// Gauss-Legendre on [-1, 1], and the integrals from -1 to each node of the polynomial through values at the nodes.
struct Rule {
  Nodes at;
  Nodes weight;
  std::array<Nodes, kNodes> to_node;  // [from value k][to node m]

  Rule() {
    const auto zeros = boost::math::legendre_p_zeros<double>(kNodes);  // the positive half
    for (std::size_t k = 0; k < kNodes / 2; ++k) {
      at[kNodes / 2 + k] = zeros[k];
      at[kNodes / 2 - 1 - k] = -zeros[k];
    }
    for (std::size_t k = 0; k < kNodes; ++k) {
      const double slope = boost::math::legendre_p_prime(static_cast<int>(kNodes), at[k]);
      weight[k] = 2 / ((1 - at[k] * at[k]) * slope * slope);
      for (std::size_t m = 0; m < kNodes; ++m) to_node[k][m] = weight[k] * kernel(at[k], at[m]);
    }
  }

  // Sum over l of (2l+1)/2 P_l(from) * integral of P_l from -1 to `to`: Legendre expansion of the interpolating
  // polynomial, with integral P_l = (P_{l+1} - P_{l-1}) / (2l+1) (Abramowitz & Stegun 1964, 22.7.10 and 22.13.8).
  static double kernel(double from, double to) {
    double sum = (to + 1) / 2;
    for (int l = 1; l < static_cast<int>(kNodes); ++l) {
      sum += boost::math::legendre_p(l, from) *
             (boost::math::legendre_p(l + 1, to) - boost::math::legendre_p(l - 1, to)) / 2;
    }
    return sum;
  }
};

const Rule& gauss_legendre() {
  static const Rule kRule;
  return kRule;
}

// log Gamma(x) less Stirling's leading terms, x log x - x - log(x)/2 + log(2 pi)/2. The series (Abramowitz & Stegun
// 1964, 6.1.41) is exact to double from 16 on.
double stirling_rest(double x) {
  if (x < 16) {
    const double half_log_two_pi = boost::math::constants::log_root_two_pi<double>();
    int sign = 0;  // std::lgamma() leaves it in a global, which threads share
    return ::lgamma_r(x, &sign) - ((x - 0.5) * std::log(x) - x + half_log_two_pi);
  }
  const double r = 1 / (x * x);
  return (1.0 / 12 - r * (1.0 / 360 - r * (1.0 / 1260 - r * (1.0 / 1680 - r * (1.0 / 1188))))) / x;
}

// log(1 - x + x e^d) - x d, for x up to 1/2: how far a Bernoulli's cumulant generating function bends away from its
// tangent. The difference loses its digits for small d, so there it is the series of the cumulants, with q = x (1 - x).
double bend(double x, double d) {
  if (std::fabs(d) > 0.01) return std::log1p(x * std::expm1(d)) - x * d;
  const double q = x * (1 - x), skew = 1 - 2 * x;
  return q * d * d *
         (1.0 / 2 + d * (skew / 6 + d * ((1 - 6 * q) / 24 +
                                         d * (skew * (1 - 12 * q) / 120 + d * (1 - 30 * q * (1 - 4 * q)) / 720))));
}

// One arm's density in y, and how far its integration has come. Everything is computed from the smaller of x and 1 - x:
// side is 1 for x, -1 for 1 - x.
class Arm {
 public:
  explicit Arm(const Beta& beta)
      : beta_(beta),
        total_(beta.alpha + beta.beta),
        side_(beta.alpha <= beta.beta ? 1 : -1),
        mean_(shape(side_) / total_),
        peak_(std::log(beta.alpha / beta.beta)),
        width_(std::sqrt(1 / beta.alpha + 1 / beta.beta)),
        step_(on_grid(std::min(kStep * width_, kLongest))),
        low_(end(-1)),
        high_(end(1)) {
    // B(alpha, beta) / (m^alpha (1-m)^beta) in Stirling's form: lgamma alone would lose 2e-9 at a million counts.
    log_area_ = std::log(boost::math::constants::root_two_pi<double>() * width_) + stirling_rest(beta.alpha) +
                stirling_rest(beta.beta) - stirling_rest(total_);
  }

  double low() const { return low_; }
  double high() const { return high_; }
  double total() const { return total_; }
  double shape(int side) const { return side > 0 ? beta_.alpha : beta_.beta; }
  // Where a panel that starts at y must end for this arm's sake.
  double reach(double y) const {
    if (y < low_) return low_;
    return y < high_ ? y + step_ : std::numeric_limits<double>::infinity();
  }
  double log_density(double y) const { return relative(y - peak_) - log_area_; }

  double below = 0;  // distribution function at the start of the panel

 private:
  // log g(peak + d) - log g(peak).
  double relative(double d) const { return -total_ * bend(mean_, side_ * d); }

  // Where the density falls below the cut. Newton on a concave function comes in from outside without crossing the
  // root, so any iterate after the first is a safe end; the first guess, from the normal approximation, may fall on
  // either side.
  double end(int direction) const {
    double d = direction * std::sqrt(2 * kLogCut) * width_;
    for (int i = 0; i < 6; ++i) {
      const double odds = mean_ * std::exp(side_ * d);
      const double slope = -total_ * side_ * (odds / (1 - mean_ + odds) - mean_);
      d -= (relative(d) + kLogCut) / slope;
    }
    return on_grid(peak_ + d);
  }

  Beta beta_;
  double total_;
  int side_;
  double mean_, peak_, width_, step_, low_, high_, log_area_ = 0;
};

// One active arm's values at the nodes of the panel.
struct Column {
  std::size_t arm = 0;
  Nodes density;  // times half the panel's length
  Nodes distribution;
  double before = 0;  // product over the columns before this one
};

// What all arms share in a panel. An arm's log density at a node is its value at the centre + (shape - total x) d -
// total bend(x, d).
class Panel {
 public:
  Panel(const Rule& rule, double begin, double end)
      : centre_(begin + (end - begin) / 2),
        half_((end - begin) / 2),
        side_(centre_ <= 0 ? 1 : -1),
        x_(1 / (1 + std::exp(std::fabs(centre_)))) {
    for (std::size_t k = 0; k < kNodes; ++k) {
      d_[k] = side_ * half_ * rule.at[k];
      bend_[k] = bend(x_, d_[k]);
    }
  }

  // Writes the arm's values and moves its distribution function to the end of the panel.
  void fill(const Rule& rule, Arm& arm, Column& column) const {
    const double at_centre = arm.log_density(centre_) + std::log(half_);
    const double slope = arm.shape(side_) - arm.total() * x_;
    Nodes density, distribution;  // local, so that the compiler may keep them in registers
    for (std::size_t k = 0; k < kNodes; ++k) density[k] = std::exp(at_centre + slope * d_[k] - arm.total() * bend_[k]);
    distribution.fill(arm.below);
    for (std::size_t k = 0; k < kNodes; ++k) {
      arm.below += rule.weight[k] * density[k];
      for (std::size_t m = 0; m < kNodes; ++m) distribution[m] += rule.to_node[k][m] * density[k];
    }
    column.density = density;
    column.distribution = distribution;
  }

 private:
  double centre_, half_;
  int side_;
  double x_;  // of the centre, or 1 - x by the side
  Nodes d_, bend_;
};

// Adds the panel's share of integral f_i prod_{j != i} F_j to each active arm. Arms that ended before have F = 1 and f
// = 0.
void add_products(const Rule& rule, std::vector<Column>& active, std::vector<double>& sums) {
  for (std::size_t m = 0; m < kNodes; ++m) {
    double product = rule.weight[m];
    for (Column& column : active) {
      column.before = product;
      product *= column.distribution[m];
    }
    double after = 1;
    for (auto column = active.rbegin(); column != active.rend(); ++column) {
      sums[column->arm] += column->density[m] * column->before * after;
      after *= column->distribution[m];
    }
  }
}

bool in_range(const Beta& beta) {
  return beta.alpha >= kLeastShape && beta.alpha <= kMostShape && beta.beta >= kLeastShape && beta.beta <= kMostShape;
}

// Sum over the panels, from the lowest arm's low end to the highest arm's high end; raw, not normalised.
std::vector<double> integrate(std::vector<Arm>& arms) {
  const Rule& rule = gauss_legendre();
  std::vector<double> sums(arms.size(), 0.0);
  std::vector<Column> active;
  active.reserve(arms.size());
  double begin = std::numeric_limits<double>::infinity();
  for (const Arm& arm : arms) begin = std::min(begin, arm.low());
  while (true) {
    double end = std::numeric_limits<double>::infinity();
    for (const Arm& arm : arms) end = std::min(end, arm.reach(begin));
    if (!(end > begin) || std::isinf(end)) return sums;
    const Panel panel(rule, begin, end);
    active.clear();
    bool all_begun = true;  // else some F is zero here, and so is every product
    for (std::size_t i = 0; i < arms.size(); ++i) {
      if (arms[i].low() > begin) all_begun = false;
      if (arms[i].low() > begin || arms[i].high() <= begin) continue;
      active.emplace_back();
      active.back().arm = i;
      panel.fill(rule, arms[i], active.back());
    }
    if (all_begun) add_products(rule, active, sums);
    begin = end;
  }
}

}  // namespace

BestArm best_arm(const std::vector<Beta>& betas) {
  BestArm result;
  if (!std::all_of(betas.begin(), betas.end(), in_range)) {
    result.raw_sum = std::numeric_limits<double>::quiet_NaN();
    result.probability.assign(betas.size(), result.raw_sum);
    return result;
  }
  std::vector<Arm> arms(betas.begin(), betas.end());
  result.probability = integrate(arms);
  result.raw_sum = std::accumulate(result.probability.begin(), result.probability.end(), 0.0);
  for (double& p : result.probability) p /= result.raw_sum;
  return result;
}

std::vector<double> probability_best(const std::vector<Beta>& arms) {
  return best_arm(arms).probability;
}

}  // namespace experiment::bandit
