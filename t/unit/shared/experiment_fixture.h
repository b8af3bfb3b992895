// Experiments of tests as values, and what reconcile() needs beside them.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "shared/reconcile.h"

namespace experiment::shared {

inline bandit::Experiment make_experiment(const std::string& key, const std::vector<double>& weights) {
  bandit::Experiment experiment;
  experiment.key = experiment.salt = key;
  experiment.desired = bandit::Desired::kRunning;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    experiment.variants.push_back({i == 0 ? "control" : "v" + std::to_string(i), weights[i], {}});
  }
  experiment.goals.push_back({"buy"});
  return experiment;
}

inline bandit::Experiment make_bandit(const std::string& key, const std::vector<double>& weights) {
  bandit::Experiment experiment = make_experiment(key, weights);
  experiment.policy.kind = bandit::PolicyKind::kThompson;
  experiment.policy.goal = "buy";
  experiment.policy.floor = 0.01;
  experiment.policy.min_epoch_s = 1;
  experiment.policy.warm_up = {100, 5, 0};
  return experiment;
}

inline bandit::Document document_of(std::vector<bandit::Experiment> experiments) {
  bandit::Document document;
  document.experiments = std::move(experiments);
  return document;
}

inline RandomBits seeded_bits(std::uint64_t seed) {
  return [engine = std::mt19937_64(seed)]() mutable { return engine(); };
}

}  // namespace experiment::shared
