#include "shared/plan_text.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace experiment::shared {
namespace {

const char* const kDocument = R"({"schema":1,"holdout":0.02,"layers":[{"key":"l","holdout":0.1}],"experiments":[
  {"key":"hero","layer":"l","desired":"running","variants":[{"key":"control"},{"key":"green","payload":{"c":"a\nb"}}],
   "goals":[{"key":"buy"},{"key":"revenue","kind":"value","max":500}]}]})";

std::string canonical() {
  DefinitionError error;
  auto parsed = parse_document(kDocument, error);
  EXPECT_TRUE(parsed) << describe(error);
  return parsed ? parsed->canonical.at(0) : std::string();
}

ExperimentRuntime numbers() {
  ExperimentRuntime state;
  state.generation = 3;
  state.revision = 4'000'000'000;
  state.arms = {"control", "gone", "green"};
  state.goals = {{"revenue", bandit::GoalKind::kValue}, {"buy"}};
  return state;
}

TEST(PlanText, ComesBackWhole) {
  std::string error;
  const auto plan = decode_plan_text(encode_plan_text(numbers(), canonical()), error);
  ASSERT_TRUE(plan) << error;
  EXPECT_EQ(plan->generation, 3u);
  EXPECT_EQ(plan->revision, 4'000'000'000u);
  EXPECT_EQ(plan->arms, numbers().arms);
  ASSERT_EQ(plan->goals.size(), 2u);
  EXPECT_EQ(plan->goals[0].key, "revenue");
  EXPECT_EQ(plan->goals[0].kind, bandit::GoalKind::kValue);
  EXPECT_EQ(plan->goals[1].kind, bandit::GoalKind::kConversion);
  EXPECT_EQ(plan->placed.experiment.key, "hero");
  EXPECT_EQ(plan->placed.experiment.variants[1].payload, R"({"c":"a\nb"})");
  EXPECT_EQ(plan->placed.holdout, 0.02);
  ASSERT_TRUE(plan->placed.layer);
  EXPECT_EQ(plan->placed.layer->holdout, 0.1);
}

TEST(PlanText, NoGoalsAreADash) {
  ExperimentRuntime state = numbers();
  state.goals.clear();
  const std::string text = encode_plan_text(state, canonical());
  EXPECT_EQ(text.substr(0, text.find('\n')), "3 4000000000 control,gone,green -");
  std::string error;
  const auto plan = decode_plan_text(text, error);
  ASSERT_TRUE(plan) << error;
  EXPECT_TRUE(plan->goals.empty());
}

TEST(PlanText, MostArmsAndGoalsOfTheLongestNames) {
  ExperimentRuntime state;
  for (int i = 0; i < bandit::kMaxArms; ++i) state.arms.push_back(std::string(38, 'a') + std::to_string(10 + i));
  for (int i = 0; i < bandit::kMaxGoals; ++i) state.goals.push_back({std::string(39, 'g') + std::to_string(i)});
  std::string error;
  const auto plan = decode_plan_text(encode_plan_text(state, canonical()), error);
  ASSERT_TRUE(plan) << error;
  EXPECT_EQ(plan->arms, state.arms);
  EXPECT_EQ(plan->goals.back().key, state.goals.back().key);
}

TEST(PlanText, WhatWasNotEncodedIsRefusedWithAReason) {
  ExperimentRuntime many = numbers();
  many.arms.assign(21, "a");
  ExperimentRuntime none = numbers();
  none.arms.clear();
  const std::string good = encode_plan_text(numbers(), canonical());
  for (const std::string& text :
       {std::string(), std::string("\n"), std::string("1"), std::string("x 1 a -\n") + canonical(),
        std::string("1 -1 a -\n") + canonical(), std::string("99999999999 1 a -\n") + canonical(),
        encode_plan_text(many, canonical()), encode_plan_text(none, canonical()), encode_plan_text(numbers(), "{}"),
        encode_plan_text(numbers(), ""), good.substr(0, good.size() - 1), good + "x"}) {
    std::string error;
    EXPECT_FALSE(decode_plan_text(text, error)) << text;
    EXPECT_FALSE(error.empty()) << text;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
}

TEST(PlanText, NoPartOfItIsTakenForTheWhole) {
  const std::string good = encode_plan_text(numbers(), canonical());
  for (std::size_t length = 0; length < good.size(); ++length) {
    std::string error;
    ASSERT_FALSE(decode_plan_text(good.substr(0, length), error)) << length;
  }
}

}  // namespace
}  // namespace experiment::shared
