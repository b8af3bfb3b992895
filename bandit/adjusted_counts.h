// Counts of all epochs as one posterior per arm, free of the time effects that changing weights turn into bias.
//
// When rates drift and weights change, pooled counts compare Monday's traffic of one arm with Sunday's of another
// (Simpson's paradox), and a bandit that reads them locks onto a random arm. Here arms are compared within epochs only:
// a two-way additive model, rate = epoch + arm, fitted to sums. With constant shares it equals the pooled counts.
// Called by the allocator once per epoch; pure functions, no locking.
#pragma once

#include <vector>

#include "bandit/posterior.h"

namespace experiment::bandit {

// One epoch's counts by arm. An arm beyond the end of a vector, or with n = 0, was not in the epoch.
struct EpochArms {
  std::vector<double> n;  // exposed units
  std::vector<double> s;  // of these, units with a reward
  double age_days = 0;    // only read where there is a discount
};

struct AdjustedArm {
  double n = 0;           // exposures over all epochs, discounted
  double effect = 0;      // d: rate less the average arm's rate
  double rate = 0;        // m: overall rate + effect, within [1e-4, 1 - 1e-4]
  double efficiency = 0;  // kappa in [0, 1]: share of n that can be compared with other arms
  Beta posterior;         // prior + efficiency * n * (rate, 1 - rate)
};

// Adjusted counts of `arms` arms, one entry each (notation: n_ea, S_ea of epoch e and arm a; N_e, S_e sums over arms;
// N_a, sum over epochs; N over all; both discounted by daily_discount^age first):
//   A_ab = 1[a=b] N_a - sum_e n_ea n_eb / N_e            b_a = sum_e (S_ea - n_ea S_e / N_e)
//   (A + (N/K^2) 11') d = b                              mu  = (S - sum_a N_a d_a) / N
//   m_a = clip(mu + d_a, 1e-4, 1 - 1e-4)                 kappa_a = A_aa / (N_a (1 - N_a/N))
//
// Degenerate inputs:
// - No exposures, of all arms or of one: the prior, effect 0, efficiency 0, rate the prior's mean.
// - All exposures in one arm: its pooled counts (the limit of constant shares), efficiency 1.
// - Arms that no chain of common epochs connects: each connected group is solved by itself around its own overall rate,
// so
//   levels between groups are compared as pooled rates are; efficiency still refers to all exposures, so an arm that
//   was never beside another has efficiency 0 and keeps the prior.
// - A system that is singular in floating point (a link of one unit in 10^12): pooled rates within that group.
// Requires: finite counts >= 0, 0 < daily_discount <= 1. Otherwise the posteriors are not finite or meaningless;
// callers check is_proper().
std::vector<AdjustedArm> adjusted_counts(const std::vector<EpochArms>& epochs, std::size_t arms,
                                         const Beta& prior = Beta{1, 1}, double daily_discount = 1);

}  // namespace experiment::bandit
