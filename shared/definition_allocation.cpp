#include "shared/definition_allocation.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "shared/definition_features.h"

namespace experiment::shared {
namespace {

constexpr double kDefaultBaseline = 0.1, kMostBaseline = 0.9;
constexpr double kDefaultFloor = 0.05, kDefaultFloorOfEvenShare = 0.2;
constexpr std::uint64_t kMostUnits = 1'000'000'000;

bool is_lua_policy(std::string_view name) {
  constexpr std::string_view kPrefix = "lua:";
  const auto is_name_char = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  const std::string_view hook = name.substr(std::min(name.size(), kPrefix.size()));
  return name.substr(0, kPrefix.size()) == kPrefix && !hook.empty() && hook.size() <= bandit::kMaxKeyBytes &&
         std::all_of(hook.begin(), hook.end(), is_name_char);
}

// Whether the named policy adapts. Policies that are known but not built leave the kind at fixed: the experiment is
// off.
bool read_policy_kind(const Node& allocation, bandit::Experiment& experiment, Warnings& warnings) {
  const auto node = allocation.find("policy");
  if (!node) return false;
  constexpr std::string_view kExpected = "one of fixed thompson top_two lua:<name>";
  const std::string& name = node->string(kExpected);
  if (name == "fixed") return false;
  if (name == "thompson") {
    experiment.policy.kind = bandit::PolicyKind::kThompson;
  } else if (name == "top_two" || is_lua_policy(name)) {
    mark_not_in_build(*node, "allocation.policy " + name, experiment, warnings);
  } else {
    node->refuse(std::string(kExpected));
  }
  return true;
}

std::string conversion_goals(const bandit::Experiment& experiment) {
  std::string names;
  for (const bandit::Goal& goal : experiment.goals) {
    if (goal.kind == bandit::GoalKind::kConversion) names += (names.empty() ? "" : " ") + goal.key;
  }
  return names.empty() ? "it has none" : names;
}

void read_policy_goal(const Node& allocation, bandit::Experiment& experiment) {
  const std::string expected = "a conversion goal of this experiment (" + conversion_goals(experiment) + ")";
  const bool thompson = experiment.policy.kind == bandit::PolicyKind::kThompson;
  const auto node = thompson ? allocation.require("goal", expected) : allocation.find("goal");
  if (!node) return;
  const std::string& key = node->string(expected);
  const auto goal = std::find_if(experiment.goals.begin(), experiment.goals.end(),
                                 [&](const bandit::Goal& g) { return g.key == key; });
  if (goal == experiment.goals.end()) node->refuse(expected);
  if (thompson && goal->kind != bandit::GoalKind::kConversion) {
    node->refuse(expected + "; no policy for values is in this build");
  }
  experiment.policy.goal = key;
}

double read_floor(const Node& allocation, const bandit::Experiment& experiment, bool adaptive) {
  const auto weighted = std::count_if(experiment.variants.begin(), experiment.variants.end(),
                                      [](const bandit::Variant& v) { return v.weight > 0; });
  const double even_share = 1.0 / static_cast<double>(weighted);
  if (const auto node = allocation.find("floor")) {
    return node->number(
        0, even_share,
        "a number from 0 to 1/" + std::to_string(weighted) + " (one over the number of variants with weight)");
  }
  return adaptive ? std::min(kDefaultFloor, kDefaultFloorOfEvenShare * even_share) : 0;
}

void read_warm_up(const Node& node, bandit::WarmUp& warm_up, Warnings& warnings) {
  node.check_object("an object with exposures, successes and for");
  warn_of_unknown_members(node, {"exposures", "successes", "for"}, warnings);
  if (const auto n = node.find("exposures")) warm_up.exposures = n->integer(0, kMostUnits);
  if (const auto n = node.find("successes")) warm_up.successes = n->integer(0, kMostUnits);
  if (const auto n = node.find("for")) warm_up.for_s = n->seconds(0);
}

void read_bounds(const Node& node, bandit::Policy& policy, Warnings& warnings) {
  if (const auto n = node.find("baseline")) policy.baseline = n->number(0, kMostBaseline, "a number from 0 to 0.9");
  if (const auto n = node.find("step_limit")) {
    constexpr std::string_view kExpected = "a number above 0, up to 1";
    policy.step_limit = n->number(0, 1, kExpected);
    if (policy.step_limit <= 0) n->refuse(std::string(kExpected));
  }
  if (const auto n = node.find("min_epoch")) policy.min_epoch_s = n->seconds(1);
  if (const auto n = node.find("learn_window")) policy.learn_window_s = n->seconds(0);
  if (const auto n = node.find("warm_up")) read_warm_up(*n, policy.warm_up, warnings);
}

}  // namespace

void read_allocation(const Node& node, bandit::Experiment& experiment, Warnings& warnings) {
  const auto allocation = node.find("allocation");
  if (!allocation) return;
  allocation->check_object("an object with a policy");
  warn_of_unknown_members(
      *allocation,
      {"policy", "goal", "min_epoch", "floor", "baseline", "step_limit", "warm_up", "learn_window", "discount"},
      warnings);
  const bool adaptive = read_policy_kind(*allocation, experiment, warnings);
  if (adaptive && experiment.variants.size() < 2) {
    allocation->find("policy")->refuse("fixed, as the experiment has only one variant");
  }
  read_policy_goal(*allocation, experiment);
  experiment.policy.floor = read_floor(*allocation, experiment, adaptive);
  experiment.policy.baseline = adaptive ? kDefaultBaseline : 0;
  read_bounds(*allocation, experiment.policy, warnings);
  if (const auto discount = allocation->find("discount")) {
    discount->share();
    mark_not_in_build(*discount, "allocation.discount", experiment, warnings);
  }
}

}  // namespace experiment::shared
