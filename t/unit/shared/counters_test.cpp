#include "shared/counters.h"

#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "shared/checked_json.h"

namespace experiment::shared {
namespace {

const std::vector<GoalRecord> kGoals = {{"a", bandit::GoalKind::kConversion, bandit::ValuePer::kFirst, 2, 0},
                                        {"b", bandit::GoalKind::kValue, bandit::ValuePer::kTotal, 2, 100},
                                        {"c", bandit::GoalKind::kConversion, bandit::ValuePer::kFirst, 2, 0}};

TEST(Counters, ColumnsFollowTheGoals) {
  EXPECT_EQ(columns_of(kGoals, 0), 1);
  EXPECT_EQ(columns_of(kGoals, 1), 2);
  EXPECT_EQ(columns_of(kGoals, 2), 5);
  EXPECT_EQ(columns_of(kGoals, 3), 6);
  EXPECT_EQ(columns_of(kGoals, 9), 6) << "no more goals than there are";
  EXPECT_EQ(column_of_goal(kGoals, 0), 1);
  EXPECT_EQ(column_of_goal(kGoals, 1), 2);
  EXPECT_EQ(column_of_goal(kGoals, 2), 5);
}

TEST(Counters, MergeTakesTheMaximumAndAbsentTailsAreZero) {
  const CounterKey x{"x", 1, 2}, y{"y", 1, 2};
  Counters into{{x, {1, 5}}};
  merge_max(into, {{x, {2, 3, 4}}, {y, {7}}});
  EXPECT_EQ(into, (Counters{{x, {2, 5, 4}}, {y, {7}}}));
  merge_max(into, {{x, {2}}});
  EXPECT_EQ(into, (Counters{{x, {2, 5, 4}}, {y, {7}}})) << "merging an older copy changes nothing";
}

TEST(Counters, AddSumsAndAbsentTailsAreZero) {
  const CounterKey x{"x", 1, 2};
  Counters into{{x, {1, 5}}};
  add(into, {{x, {2, 3, 4}}});
  EXPECT_EQ(into, (Counters{{x, {3, 8, 4}}}));
}

TEST(Counters, EverythingSurvivesTheRoundTrip) {
  const Counters counters{{{"x", 1, (1ULL << 48) - 1}, {0, std::numeric_limits<std::uint64_t>::max(), 7}},
                          {{"x", 2, 1}, {}},
                          {{"y", std::numeric_limits<std::uint32_t>::max(), 0}, {1}}};
  std::string error;
  const auto decoded = decode_counters(encode_counters("instance", counters), error);
  ASSERT_TRUE(decoded) << error;
  EXPECT_EQ(decoded->instance, "instance");
  EXPECT_EQ(decoded->counters, counters);
  const auto folded = decode_folded(encode_folded({{"one", "two"}, counters}), error);
  ASSERT_TRUE(folded) << error;
  EXPECT_EQ(folded->instances, (std::set<std::string, std::less<>>{"one", "two"}));
  EXPECT_EQ(folded->counters, counters);
}

std::string error_of(const std::string& counters) {
  std::string error;
  const std::string state = "{\"instance\":\"i\",\"counters\":" + counters + "}";
  EXPECT_FALSE(decode_counters(seal_state(nlohmann::json::parse(state)), error)) << counters;
  return error;
}

TEST(Counters, ErrorsNamePlaceValueAndExpectation) {
  for (const char* vector : {"1,", ",1", "1,,2", "01", "-1", "1 ", "18446744073709551616", "a"}) {
    EXPECT_EQ(error_of(std::string("{\"x\":{\"1\":{\"7\":\"") + vector + "\"}}}"),
              std::string("at /counters/x/1/7: \"") + vector + "\", expected decimals joined by commas");
  }
  EXPECT_EQ(error_of("{\"x\":{\"1\":{\"7\":[1]}}}"), "at /counters/x/1/7: [1], expected a string");
  EXPECT_EQ(error_of("[]"), "at /counters: [], expected an object");
  EXPECT_NE(error_of("{\"x\":{\"4294967296\":{}}}").find("expected a decimal as its name, at most 4294967295"),
            std::string::npos);
}

}  // namespace
}  // namespace experiment::shared
