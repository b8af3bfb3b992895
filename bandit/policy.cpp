#include "bandit/policy.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <optional>
#include <utility>

#include "bandit/adjusted_counts.h"
#include "bandit/best_arm.h"

namespace experiment::bandit {
namespace {

bool usable(double value) {
  return std::isfinite(value) && value >= 0;
}

// `weights` over the arms with weight, on the scale of 1; nullopt where there is nothing usable to scale.
std::optional<std::vector<double>> normalised(std::vector<double> weights, const std::vector<bool>& has_weight) {
  weights.resize(has_weight.size(), 0.0);
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!has_weight[i]) weights[i] = 0;
    if (!usable(weights[i])) return std::nullopt;
    sum += weights[i];
  }
  if (!(sum > 0) || !std::isfinite(sum)) return std::nullopt;
  for (double& weight : weights) weight /= sum;
  return weights;
}

// What an arm has seen over some epochs.
struct Experience {
  std::uint64_t n = 0, s = 0;
  int epochs = 0;         // that it took part in
  bool newcomer = false;  // missed one that others took part in

  bool warm(const WarmUp& warm_up) const {
    return (n >= warm_up.exposures && s >= warm_up.successes) || epochs >= kEstablishedEpochs;
  }
};

std::uint64_t entry(const std::vector<std::uint64_t>& values, std::size_t i) {
  return i < values.size() ? values[i] : 0;
}

std::vector<Experience> experience_of(const std::vector<EpochCounts>& epochs, std::size_t arms) {
  std::vector<Experience> experience(arms);
  for (const EpochCounts& epoch : epochs) {
    if (std::all_of(epoch.n.begin(), epoch.n.end(), [](std::uint64_t n) { return n == 0; })) continue;
    for (std::size_t i = 0; i < arms; ++i) {
      const std::uint64_t n = entry(epoch.n, i);
      experience[i].n += n;
      experience[i].s += entry(epoch.s, i);
      experience[i].epochs += n > 0;
      experience[i].newcomer |= n == 0;
    }
  }
  return experience;
}

std::vector<EpochCounts> entering(const std::vector<EpochCounts>& epochs, std::uint32_t learn_window_s) {
  std::vector<EpochCounts> entered;
  std::copy_if(epochs.begin(), epochs.end(), std::back_inserter(entered),
               [&](const EpochCounts& epoch) { return epoch.age_of_end_s >= learn_window_s; });
  return entered;
}

std::vector<AdjustedArm> adjusted(const std::vector<EpochCounts>& epochs, std::size_t arms) {
  std::vector<EpochArms> counts;
  for (const EpochCounts& epoch : epochs) {
    EpochArms by_arm;
    for (std::size_t i = 0; i < arms; ++i) {
      by_arm.n.push_back(static_cast<double>(entry(epoch.n, i)));
      by_arm.s.push_back(static_cast<double>(entry(epoch.s, i)));
    }
    counts.push_back(std::move(by_arm));
  }
  return adjusted_counts(counts, arms);
}

// Which arms share by P(best), and by what posteriors.
struct Field {
  std::vector<std::size_t> arms;
  std::vector<Beta> posteriors;
};

Field field_of(const Policy& policy, bool smaller_is_better, const std::vector<bool>& has_weight,
               const std::vector<EpochCounts>& epochs) {
  const std::vector<EpochCounts> entered = entering(epochs, policy.learn_window_s);
  const std::vector<Experience> experience = experience_of(entered, has_weight.size());
  const std::vector<AdjustedArm> counts = adjusted(entered, has_weight.size());
  Field field;
  for (std::size_t i = 0; i < has_weight.size(); ++i) {
    const bool comparable = counts[i].efficiency * counts[i].n > 0;
    if (!has_weight[i] || !comparable || !experience[i].warm(policy.warm_up)) continue;
    const Beta& belief = counts[i].posterior;
    field.arms.push_back(i);
    field.posteriors.push_back(smaller_is_better ? Beta{belief.beta, belief.alpha} : belief);
  }
  return field;
}

// p_best spread over the field, 1/K for each other arm with weight.
std::vector<double> with_waiting(const std::vector<double>& p_best, const Field& field,
                                 const std::vector<bool>& has_weight) {
  const auto k = static_cast<double>(std::count(has_weight.begin(), has_weight.end(), true));
  std::vector<double> p(has_weight.size());
  for (std::size_t i = 0; i < p.size(); ++i) p[i] = has_weight[i] ? 1 / k : 0;
  for (std::size_t i : field.arms) p[i] = p_best[i] * static_cast<double>(field.arms.size()) / k;
  return p;
}

// Only an exact 0 says that an arm is to be empty; what is not usable must not empty one.
std::vector<bool> not_zero(const std::vector<double>& weights) {
  std::vector<bool> has_weight;
  for (double weight : weights) has_weight.push_back(weight != 0);
  return has_weight;
}

}  // namespace

std::string_view phase_token(Phase phase) noexcept {
  switch (phase) {
    case Phase::kWarmingUp:
      return "warming_up";
    case Phase::kLearning:
      return "learning";
    case Phase::kHeld:
      break;
  }
  return "held";
}

bool warming_up(const Policy& policy, const std::vector<double>& declared_weights,
                const std::vector<EpochCounts>& epochs, double elapsed_s) {
  if (!(elapsed_s >= policy.warm_up.for_s)) return true;
  const std::vector<Experience> experience = experience_of(epochs, declared_weights.size());
  for (std::size_t i = 0; i < experience.size(); ++i) {
    if (declared_weights[i] != 0 && !experience[i].newcomer && !experience[i].warm(policy.warm_up)) return true;
  }
  return false;
}

Decision thompson(const Policy& policy, bool smaller_is_better, const std::vector<double>& declared_weights,
                  const std::vector<double>& current_weights, const std::vector<EpochCounts>& epochs,
                  double elapsed_s) {
  Decision decision;
  const std::vector<bool> has_weight = not_zero(declared_weights);
  const auto declared = normalised(declared_weights, has_weight);
  const auto current = normalised(current_weights, has_weight);
  decision.weights = current ? *current : declared.value_or(std::vector<double>(has_weight.size(), 0.0));
  const bool sound = std::all_of(epochs.begin(), epochs.end(), [](const auto& e) { return usable(e.age_of_end_s); });
  if (!declared || !sound || !usable(policy.floor) || !usable(policy.step_limit) || !usable(elapsed_s)) return decision;

  std::vector<double> next = *declared;
  std::vector<double> p_best;
  Field field;
  if (!warming_up(policy, declared_weights, epochs, elapsed_s)) {
    field = field_of(policy, smaller_is_better, has_weight, epochs);
  }
  if (!field.arms.empty()) {
    const std::vector<double> p = probability_best(field.posteriors);
    if (!std::all_of(p.begin(), p.end(), usable)) return decision;
    p_best.assign(has_weight.size(), 0.0);
    for (std::size_t i = 0; i < p.size(); ++i) p_best[field.arms[i]] = p[i];
    next = apply_floor(with_waiting(p_best, field, has_weight), has_weight, policy.floor);
  }
  decision.phase = field.arms.empty() ? Phase::kWarmingUp : Phase::kLearning;
  decision.p_best = std::move(p_best);
  decision.weights = current ? limit_step(*current, next, policy.step_limit) : next;
  return decision;
}

std::vector<double> apply_floor(const std::vector<double>& p, const std::vector<bool>& has_weight, double floor) {
  const auto k = static_cast<double>(std::count(has_weight.begin(), has_weight.end(), true));
  const double f = std::clamp(floor, 0.0, 1 / std::max(k, 1.0));
  const double rest = std::max(0.0, 1 - k * f);
  std::vector<double> weights(p.size(), 0.0);
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (has_weight[i]) weights[i] = f + rest * p[i];
  }
  return weights;
}

std::vector<double> limit_step(const std::vector<double>& from, const std::vector<double>& to, double limit) {
  double distance = 0;
  for (std::size_t i = 0; i < from.size(); ++i) distance += std::fabs(to[i] - from[i]) / 2;
  if (distance <= limit) return to;
  const double share = limit / distance;
  std::vector<double> weights(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) weights[i] = from[i] + share * (to[i] - from[i]);
  return weights;
}

}  // namespace experiment::bandit
