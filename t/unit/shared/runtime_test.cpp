#include "shared/runtime.h"

#include <string>

#include <gtest/gtest.h>

#include "shared/checked_json.h"

namespace experiment::shared {
namespace {

Runtime sample() {
  Runtime runtime;
  runtime.version = 41;
  runtime.document = 7;
  runtime.kill_all.push_back({"", "drill", "kill file /run/nginx/experiment.kill", 1'700'000'001});
  ExperimentRuntime& experiment = runtime.experiments["checkout-button"];
  experiment.generation = 3;
  experiment.generation_signature = 0xfedcba9876543210;
  experiment.revision = 4;
  experiment.revision_signature = 1;
  experiment.arms = {"control", "green"};
  experiment.goals = {{"purchase", bandit::GoalKind::kConversion, bandit::ValuePer::kFirst, 2, 0},
                      {"revenue", bandit::GoalKind::kValue, bandit::ValuePer::kTotal, 3, 500'000}};
  experiment.kills.push_back({"green", "slow \"pages\"\n\x7f", "experimentctl (user ana)", 1'700'000'002});
  experiment.kills.push_back({"", "crash", "kill file /k", 1'700'000'003, 0xfedcba9876543211});
  experiment.kills.back().lifted = Lift{"experimentctl (user bob)", "mended", 1'700'000'004};
  experiment.epochs = {{(1ULL << 20) + 5, 1'700'000'000'123, 1'700'000'060'000, true, {10000}, 1},
                       {(2ULL << 20) + 1, 1'700'000'060'000, 0, false, {2500, 7500}, 2}};
  experiment.runs = "0*2500,1*7500";
  experiment.started_ms = 1'700'000'000'123;
  return runtime;
}

TEST(Runtime, EverythingSurvivesTheRoundTrip) {
  std::string error;
  const std::string text = encode_runtime(sample());
  const auto decoded = decode_runtime(text, error);
  ASSERT_TRUE(decoded) << error;
  EXPECT_EQ(encode_runtime(*decoded), text);
  const ExperimentRuntime& experiment = decoded->experiments.at("checkout-button");
  EXPECT_EQ(decoded->version, 41u);
  EXPECT_EQ(decoded->document, 7u);
  EXPECT_EQ(decoded->kill_all.at(0).by, "kill file /run/nginx/experiment.kill");
  EXPECT_EQ(experiment.generation_signature, 0xfedcba9876543210u);
  EXPECT_EQ(experiment.goals.at(1).per, bandit::ValuePer::kTotal);
  EXPECT_EQ(experiment.goals.at(1).scale, 3);
  EXPECT_EQ(experiment.goals.at(1).max, 500'000u);
  EXPECT_EQ(experiment.kills.at(0).reason, "slow \"pages\"\n\x7f");
  EXPECT_TRUE(experiment.kills.at(0).stands());
  EXPECT_EQ(experiment.kills.at(0).id, 0u);
  EXPECT_EQ(experiment.kills.at(1).id, 0xfedcba9876543211u);
  ASSERT_TRUE(experiment.kills.at(1).lifted);
  EXPECT_EQ(experiment.kills.at(1).lifted->by, "experimentctl (user bob)");
  EXPECT_EQ(experiment.kills.at(1).lifted->reason, "mended");
  EXPECT_EQ(experiment.kills.at(1).lifted->at_s, 1'700'000'004);
  EXPECT_EQ(experiment.epochs.at(0).id, (1u << 20) + 5);
  EXPECT_TRUE(experiment.epochs.at(0).sealed);
  EXPECT_EQ(experiment.epochs.at(1).quotas, (std::vector<int>{2500, 7500}));
  EXPECT_EQ(experiment.runs, "0*2500,1*7500");
}

TEST(Runtime, EveryTruncationIsRefusedWithAReason) {
  const std::string text = encode_runtime(sample());
  for (std::size_t length = 0; length < text.size(); ++length) {
    std::string error;
    EXPECT_FALSE(decode_runtime(text.substr(0, length), error)) << length;
    EXPECT_FALSE(error.empty()) << length;
  }
}

TEST(Runtime, EveryFlippedBitIsRefusedWithAReason) {
  const std::string text = encode_runtime(sample());
  for (std::size_t bit = 0; bit < text.size() * 8; ++bit) {
    std::string flipped = text, error;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(decode_runtime(flipped, error)) << bit;
    EXPECT_FALSE(error.empty()) << bit;
  }
}

TEST(Runtime, ExtensionIsRefused) {
  std::string error;
  EXPECT_FALSE(decode_runtime(encode_runtime(sample()) + "\n", error));
}

// Changes one value of a valid state and seals it again: what the checksum cannot see.
std::string error_of(const std::string& pointer, const nlohmann::json& value) {
  std::string error;
  nlohmann::json state = *open_state(encode_runtime(sample()), error);
  state[nlohmann::json::json_pointer(pointer)] = value;
  EXPECT_FALSE(decode_runtime(seal_state(state), error)) << pointer;
  return error;
}

TEST(Runtime, ErrorsNamePlaceValueAndExpectation) {
  const std::string base = "/experiments/checkout-button";
  EXPECT_EQ(error_of("/version", -1), "at /version: -1, expected an integer from 0 to 18446744073709551615");
  EXPECT_EQ(error_of(base + "/generation", "3"),
            "at " + base + "/generation: \"3\", expected an integer from 0 to 4294967295");
  EXPECT_EQ(error_of(base + "/goals/1/kind", "count"),
            "at " + base + "/goals/1/kind: \"count\", expected conversion or value");
  EXPECT_EQ(error_of(base + "/epochs/1/quotas", {1, 2}),
            "at " + base + "/epochs/1/quotas: [1,2], expected slots of at most 2 arms that sum to 10000");
  EXPECT_EQ(error_of(base + "/epochs/1/goals", 3),
            "at " + base + "/epochs/1/goals: 3, expected an integer from 0 to 2");
  EXPECT_NE(error_of(base + "/epochs/1/id", 5).find("expected an id above the one before"), std::string::npos);
  EXPECT_NE(error_of(base + "/epochs/1/id", 1ULL << 48).find("/epochs/1/id: 281474976710656"), std::string::npos);
  EXPECT_EQ(error_of(base + "/generation_signature", "xyz"),
            "at " + base + "/generation_signature: \"xyz\", expected 16 hex digits");
  EXPECT_EQ(error_of(base + "/epochs/0/sealed", 1), "at " + base + "/epochs/0/sealed: 1, expected true or false");
  EXPECT_EQ(error_of(base + "/kills/0/by", nullptr), "at " + base + "/kills/0/by: null, expected a string");
  EXPECT_EQ(error_of(base + "/kills/1/id", 7), "at " + base + "/kills/1/id: 7, expected a string");
  EXPECT_NE(error_of(base + "/kills/1/lifted", nlohmann::json::object())
                .find("/kills/1/lifted: {}, expected exactly the members by, reason, at_s"),
            std::string::npos);
  EXPECT_NE(error_of("/unknown", 1).find("expected exactly the members version, kill_all, experiments, perhaps"),
            std::string::npos);
}

TEST(Runtime, AStateFromBeforeKillsHadIdsIsRead) {
  std::string error;
  nlohmann::json state = *open_state(encode_runtime(sample()), error);
  state.erase("document");
  for (const char* member : {"id", "lifted"}) state["experiments"]["checkout-button"]["kills"][1].erase(member);
  const auto decoded = decode_runtime(seal_state(state), error);
  ASSERT_TRUE(decoded) << error;
  EXPECT_EQ(decoded->document, 0u);
  const Kill& kill = decoded->experiments.at("checkout-button").kills.at(1);
  EXPECT_EQ(kill.id, 0u);
  EXPECT_TRUE(kill.stands());
}

TEST(Runtime, OneExperimentAndKillsAreTextsOfTheirOwn) {
  std::string error;
  const ExperimentRuntime experiment = sample().experiments.at("checkout-button");
  const std::string text = encode_experiment_runtime(experiment);
  const auto decoded = decode_experiment_runtime(text, error);
  ASSERT_TRUE(decoded) << error;
  EXPECT_EQ(encode_experiment_runtime(*decoded), text);
  const auto kills = decode_kills(encode_kills(experiment.kills), error);
  ASSERT_TRUE(kills) << error;
  EXPECT_EQ(encode_kills(*kills), encode_kills(experiment.kills));
  EXPECT_EQ(encode_kills({}), "[]");
  for (std::size_t length = 0; length < text.size(); ++length) {
    error.clear();
    ASSERT_FALSE(decode_experiment_runtime(text.substr(0, length), error)) << length;
    ASSERT_FALSE(error.empty()) << length;
  }
  EXPECT_FALSE(decode_kills("{}", error));
  EXPECT_EQ(error, "at /: {}, expected an array");
  EXPECT_FALSE(decode_kills(R"([{"variant":"a"}])", error));
  EXPECT_NE(error.find("at /0: "), std::string::npos) << error;
}

TEST(Runtime, ReasonsThatAreNoUtf8AreStillWritten) {
  Runtime runtime;
  runtime.kill_all.push_back({"", "\xff", "", 0});
  std::string error;
  EXPECT_EQ(decode_runtime(encode_runtime(runtime), error)->kill_all.at(0).reason, "\xef\xbf\xbd");
}

}  // namespace
}  // namespace experiment::shared
