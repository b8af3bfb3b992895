#include "shared/plan_text.h"

#include <charconv>

namespace experiment::shared {
namespace {

// Cuts the text before `separator` off; all of it when there is none.
std::string_view cut(std::string_view& text, char separator) {
  std::size_t end = text.find(separator);
  std::string_view head = text.substr(0, end);
  text.remove_prefix(end == text.npos ? text.size() : end + 1);
  return head;
}

bool read_number(std::string_view text, std::uint32_t& out) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string encode_plan_text(const ExperimentRuntime& state, std::string_view canonical) {
  std::string text = std::to_string(state.generation) + " " + std::to_string(state.revision) + " ";
  for (std::size_t a = 0; a < state.arms.size(); ++a) text += (a == 0 ? "" : ",") + state.arms[a];
  text += " ";
  for (std::size_t g = 0; g < state.goals.size(); ++g) {
    text += (g == 0 ? "" : ",") + state.goals[g].key + (state.goals[g].kind == bandit::GoalKind::kValue ? ":v" : ":c");
  }
  if (state.goals.empty()) text += "-";
  text += "\n";
  text += canonical;
  return text;
}

std::optional<PlanText> decode_plan_text(std::string_view text, std::string& error) {
  PlanText plan;
  std::string_view head = cut(text, '\n');
  if (!read_number(cut(head, ' '), plan.generation) || !read_number(cut(head, ' '), plan.revision)) {
    error = "plan text without generation and revision";
    return std::nullopt;
  }
  std::string_view arms = cut(head, ' '), goals = head;
  while (!arms.empty()) plan.arms.emplace_back(cut(arms, ','));
  if (goals == "-") goals = {};
  while (!goals.empty()) {
    std::string_view goal = cut(goals, ',');
    std::string_view key = cut(goal, ':');
    plan.goals.push_back({std::string(key), goal == "v" ? bandit::GoalKind::kValue : bandit::GoalKind::kConversion,
                          bandit::ValuePer::kFirst, 2, 0});
  }
  if (plan.arms.empty() || plan.arms.size() > bandit::kMaxArms || plan.goals.size() > bandit::kMaxGoals) {
    error = "plan text with " + std::to_string(plan.arms.size()) + " arms and " + std::to_string(plan.goals.size()) +
            " goals";
    return std::nullopt;
  }
  auto placed = parse_placed(text, error);
  if (!placed) return std::nullopt;
  plan.placed = std::move(*placed);
  return plan;
}

}  // namespace experiment::shared
