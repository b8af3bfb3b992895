#include "shared/definition_goals.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>

#include "shared/definition_features.h"

namespace experiment::shared {
namespace {

// Steps of 10^-scale: a cookie record carries a visitor's sum in 4 bytes; a double is exact to 10^15.
constexpr double kMostCookieSum = std::numeric_limits<std::uint32_t>::max();
constexpr double kMostSteps = 1e15;

void check_currency(const Node& node) {
  constexpr std::string_view kExpected = "three capital letters like EUR";
  const std::string& text = node.string(kExpected);
  const auto is_capital = [](char c) { return c >= 'A' && c <= 'Z'; };
  if (text.size() != 3 || !std::all_of(text.begin(), text.end(), is_capital)) node.refuse(std::string(kExpected));
}

// `max` in 10^-scale, rounded half to even.
std::uint64_t read_max(const Node& node, const bandit::Goal& goal) {
  const double unit = std::pow(10.0, goal.scale);
  const double most = goal.per == bandit::ValuePer::kTotal ? kMostCookieSum : kMostSteps;
  const std::string expected =
      "a number from " + nlohmann::json(1 / unit).dump() + " to " + nlohmann::json(most / unit).dump();
  const double steps = std::nearbyint(node.number(0, kMostSteps, expected) * unit);
  if (steps < 1 || steps > most) node.refuse(expected);
  return static_cast<std::uint64_t>(steps);
}

void read_value(const Node& node, bandit::Goal& goal) {
  if (const auto n = node.find("per")) goal.per = static_cast<bandit::ValuePer>(n->choice({"first", "total"}));
  if (const auto n = node.find("scale")) goal.scale = static_cast<std::uint8_t>(n->integer(0, 6));
  if (const auto n = node.find("currency")) check_currency(*n);
  const auto max = goal.kind == bandit::GoalKind::kValue
                       ? node.require("max", "the most that one order or visitor may count, a number above 0")
                       : node.find("max");
  if (max) goal.max = read_max(*max, goal);
}

void read_kind(const Node& node, bandit::Goal& goal, bandit::Experiment& experiment, Warnings& warnings) {
  const auto kind = node.find("kind");
  if (!kind) return;
  const std::size_t index = kind->choice({"conversion", "value", "count"});
  if (index == 2) {
    mark_not_in_build(*kind, "goal kind count", experiment, warnings);
  } else {
    goal.kind = static_cast<bandit::GoalKind>(index);
  }
}

bandit::Goal read_goal(const Node& node, bandit::Experiment& experiment, Warnings& warnings) {
  node.check_object("a goal (an object)");
  warn_of_unknown_members(
      node, {"key", "kind", "role", "window", "per", "max", "scale", "currency", "direction", "of", "name"}, warnings);
  bandit::Goal goal;
  goal.key = node.require("key", "a key").key();
  read_kind(node, goal, experiment, warnings);
  read_value(node, goal);
  if (goal.kind != bandit::GoalKind::kValue) {  // nothing of a value goal may reach the generation's signature
    const bandit::Goal unset;
    goal.per = unset.per;
    goal.scale = unset.scale;
    goal.max = unset.max;
  }
  if (const auto n = node.find("window")) goal.window_s = n->seconds(1);
  if (const auto n = node.find("direction")) goal.smaller_is_better = n->choice({"up", "down"}) == 1;
  if (const auto n = node.find("of")) {
    n->key();
    mark_not_in_build(*n, "goal of", experiment, warnings);
  }
  return goal;
}

bool is_total(const bandit::Goal& goal) {
  return goal.kind == bandit::GoalKind::kValue && goal.per == bandit::ValuePer::kTotal;
}

}  // namespace

void read_goals(const Node& node, bandit::Experiment& experiment, Warnings& warnings) {
  const auto list = node.find("goals");
  if (!list) return;
  list->check_array(0, bandit::kMaxGoals, "an array of at most 7 goals");
  auto& goals = experiment.goals;
  for (std::size_t i = 0; i < list->size(); ++i) {
    const Node item = list->at(i);
    bandit::Goal goal = read_goal(item, experiment, warnings);
    const auto has_key = [&](const bandit::Goal& other) { return other.key == goal.key; };
    if (std::any_of(goals.begin(), goals.end(), has_key)) item.find("key")->refuse("a key that no other goal has");
    if (is_total(goal) && std::any_of(goals.begin(), goals.end(), is_total)) {
      item.find("per")->refuse("first, as another goal already counts the total of a visitor");
    }
    goals.push_back(std::move(goal));
  }
}

}  // namespace experiment::shared
