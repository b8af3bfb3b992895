#include "shared/definition_json.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "shared/strict_json.h"

namespace experiment::shared {
namespace {

using Json = nlohmann::json;
using bandit::Experiment;

std::string with_experiment(const std::string& members) {
  return R"({"schema":1,"layers":[{"key":"l","holdout":0.1}],"experiments":[{"key":"cta",)" + members + "}]}";
}
const std::string kVariants = R"("variants":[{"key":"control"},{"key":"green"}])";
const std::string kBandit = kVariants + R"(,"goals":[{"key":"buy"}],"allocation":{"policy":"thompson","goal":"buy")";

ParsedDocument accepted(const std::string& text) {
  DefinitionError error;
  auto parsed = parse_document(text, error);
  EXPECT_TRUE(parsed.has_value()) << describe(error) << "\n" << text.substr(0, 500);
  return parsed ? std::move(*parsed) : ParsedDocument{};
}

Experiment first(const std::string& members) {
  auto parsed = accepted(with_experiment(members));
  return parsed.document.experiments.empty() ? Experiment{} : parsed.document.experiments[0];
}

std::string refused(const std::string& text) {
  DefinitionError error;
  EXPECT_FALSE(parse_document(text, error).has_value()) << text.substr(0, 500);
  return describe(error);
}

// Every field of an experiment as text, to compare two.
std::string print(const Experiment& e) {
  Json json = {e.key,
               static_cast<int>(e.desired),
               e.unit,
               e.salt,
               e.layer,
               e.slice_begin,
               e.slice_end,
               e.traffic,
               static_cast<int>(e.render),
               e.control_cache_shared,
               e.control,
               e.winner,
               e.holdback,
               e.not_in_build};
  for (const auto& v : e.variants) json.push_back({v.key, v.weight, v.payload});
  for (const auto& g : e.goals) {
    json.push_back(
        {g.key, static_cast<int>(g.kind), static_cast<int>(g.per), g.window_s, g.scale, g.max, g.smaller_is_better});
  }
  const auto& p = e.policy;
  json.push_back({static_cast<int>(p.kind), p.goal, p.floor, p.baseline, p.step_limit, p.min_epoch_s, p.learn_window_s,
                  p.warm_up.exposures, p.warm_up.successes, p.warm_up.for_s});
  return json.dump();
}

struct CorpusFile {
  std::string name;
  std::string text;
};
std::vector<CorpusFile> corpus(const std::string& folder) {
  std::vector<CorpusFile> files;
  for (const auto& entry : std::filesystem::directory_iterator("t/definitions/" + folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    files.push_back({entry.path().string(), std::string(std::istreambuf_iterator<char>(file), {})});
  }
  return files;
}

TEST(DefinitionCorpus, GoodDocumentsAreAcceptedAndRebuiltFromTheirCanonicalTexts) {
  const auto files = corpus("good");
  ASSERT_GE(files.size(), 10u);
  for (const auto& file : files) {
    SCOPED_TRACE(file.name);
    const ParsedDocument parsed = accepted(file.text);
    ASSERT_EQ(parsed.canonical.size(), parsed.document.experiments.size());
    for (std::size_t i = 0; i < parsed.canonical.size(); ++i) {
      const Experiment& experiment = parsed.document.experiments[i];
      EXPECT_EQ(experiment.not_in_build, "");
      std::string error;
      const auto placed = parse_placed(parsed.canonical[i], error);
      ASSERT_TRUE(placed.has_value()) << error;
      EXPECT_EQ(print(placed->experiment), print(experiment));
      EXPECT_EQ(placed->holdout, parsed.document.holdout);
      EXPECT_EQ(placed->layer.has_value(), !experiment.layer.empty());
    }
  }
}

TEST(DefinitionCorpus, BadDocumentsAreRefusedAtThePlaceTheyName) {
  std::size_t count = 0;
  for (const std::string folder : {"bad", "bad_beyond_schema"}) {
    for (const auto& file : corpus(folder)) {
      SCOPED_TRACE(file.name);
      ++count;
      DefinitionError error;
      ASSERT_FALSE(parse_document(file.text, error).has_value());
      EXPECT_FALSE(error.value.empty());
      EXPECT_FALSE(error.expected.empty());
      const Json json = Json::parse(file.text, nullptr, false);
      if (json.is_object() && json.contains("x-expect")) {
        EXPECT_EQ(error.path, json["x-expect"]) << describe(error);
      }
      if (file.name.find("/text-") != std::string::npos) {
        EXPECT_EQ(error.path.rfind("line ", 0), 0u) << error.path;
      }
    }
  }
  EXPECT_GE(count, 40u);
}

TEST(DefinitionCorpus, MissingFeaturesSwitchTheExperimentOffAndSayWhere) {
  const auto files = corpus("not_in_build");
  ASSERT_FALSE(files.empty());
  for (const auto& file : files) {
    SCOPED_TRACE(file.name);
    const Json expected = Json::parse(file.text)["x-expect"];
    const std::string feature = expected["feature"], at = expected["at"];
    const ParsedDocument parsed = accepted(file.text);
    const Experiment& off = parsed.document.experiments.back();
    EXPECT_EQ(off.not_in_build, feature);
    const std::string warning =
        "at " + at + ": not in this build (" + feature + "); experiment \"" + off.key + "\" is off";
    EXPECT_NE(std::find(parsed.warnings.begin(), parsed.warnings.end(), warning), parsed.warnings.end()) << warning;
    std::string error;
    const auto placed = parse_placed(parsed.canonical.back(), error);
    ASSERT_TRUE(placed.has_value()) << error;
    EXPECT_EQ(placed->experiment.not_in_build, feature);
  }
}

TEST(DefinitionCorpus, TheExampleOfTheDocumentationIsAccepted) {
  std::ifstream file("docs/definitions.md");
  const std::string page(std::istreambuf_iterator<char>(file), {});
  const std::string open = "```json\n";
  const std::size_t begin = page.find(open);
  ASSERT_NE(begin, std::string::npos);
  const std::size_t from = begin + open.size();
  const auto parsed = accepted(page.substr(from, page.find("```", from) - from));
  ASSERT_EQ(parsed.document.experiments.size(), 1u);
  EXPECT_TRUE(parsed.warnings.empty());
}

TEST(DefinitionJson, DefaultsAreTheDocumentedOnes) {
  const Experiment e = first(kVariants);
  EXPECT_EQ(e.desired, bandit::Desired::kDraft);
  EXPECT_EQ(e.salt, "cta");
  EXPECT_EQ(e.unit, "");
  EXPECT_EQ(e.slice_begin, 0);
  EXPECT_EQ(e.slice_end, bandit::kSlots);
  EXPECT_EQ(e.traffic, 1);
  EXPECT_EQ(e.control, 0u);
  EXPECT_FALSE(e.control_cache_shared);
  EXPECT_EQ(e.policy.kind, bandit::PolicyKind::kFixed);
  EXPECT_EQ(e.policy.baseline, 0);
  const Experiment b = first(kBandit + "}");
  EXPECT_EQ(b.policy.baseline, 0.1);
  EXPECT_EQ(b.policy.floor, 0.05);
  EXPECT_EQ(b.policy.step_limit, 1);
  EXPECT_EQ(b.policy.min_epoch_s, 60u);
  EXPECT_EQ(b.policy.learn_window_s, 0u);
  EXPECT_EQ(b.policy.warm_up.exposures, 100u);
  EXPECT_EQ(b.policy.warm_up.successes, 25u);
  EXPECT_EQ(b.policy.warm_up.for_s, 86400u);
  EXPECT_EQ(b.goals[0].window_s, 7u * 86400);
}

TEST(DefinitionJson, DefaultFloorIsAFifthOfTheEvenShareOfVariantsWithWeight) {
  std::string variants = R"("variants":[{"key":"off-now","weight":0})";
  for (int i = 0; i < 8; ++i) variants += R"(,{"key":"v)" + std::to_string(i) + "\"}";
  const Experiment e = first(variants + R"(],"goals":[{"key":"g"}],"allocation":{"policy":"thompson","goal":"g"})");
  EXPECT_DOUBLE_EQ(e.policy.floor, 0.2 / 8);
}

TEST(DefinitionJson, MoneyIsRoundedHalfToEvenInStepsOfTheScale) {
  const auto max_of = [](const std::string& max) {
    return first(kVariants + R"(,"goals":[{"key":"g","kind":"value","scale":0,"max":)" + max + "}]").goals[0].max;
  };
  EXPECT_EQ(max_of("2.5"), 2u);
  EXPECT_EQ(max_of("3.5"), 4u);
  EXPECT_EQ(max_of("1e15"), 1'000'000'000'000'000u);
}

TEST(DefinitionJson, SliceBoundsAreWholeSlotsWhateverTheirBinaryForm) {
  for (int slot = 1; slot < bandit::kSlots; slot += 7) {
    char bound[16];
    std::snprintf(bound, sizeof bound, "%.4f", slot / 10000.0);
    const Experiment e = first(kVariants + R"(,"layer":"l","slice":[0,)" + bound + "]");
    ASSERT_EQ(e.slice_end, slot);
  }
}

TEST(DefinitionJson, MessagesNamePlaceValueAndExpectation) {
  EXPECT_EQ(refused(with_experiment(R"("variants":[{"key":"a"},{"key":"b","weight":-1}])")),
            "at /experiments/0/variants/1/weight: -1, expected a number >= 0");
  EXPECT_EQ(refused("{\n  \"schema\": 1,\n  \"\xC3\xA4\": }"),
            "at line 3, column 8: \"}\", expected well-formed JSON (unexpected '}'; expected '[', '{', or a literal)");
  EXPECT_EQ(refused("[]"), "at the top level: [], expected a definition document (an object)");
  EXPECT_EQ(refused(R"({"schema":1,"experiments":)"),
            "at line 1, column 27: end of text, expected well-formed JSON (unexpected end of input; expected '[', '{', "
            "or a literal)");
}

TEST(DefinitionJson, MessagesArePrintableAsciiAndShort) {
  const std::string message =
      refused(with_experiment(R"("unit":"\u001b[31m\n)" + std::string(1000, 'x') + "\xC3\xA9\"," + kVariants));
  EXPECT_NE(message.find("\\u001b[31m\\nxxx"), std::string::npos) << message;
  EXPECT_LT(message.size(), 250u);
  const std::string place = refused(R"({"schema":1,"experiments":[],"segments":{"a\n/~\u009b":1}})");
  EXPECT_EQ(place.rfind("at /segments/a\\n~1~0\\u009b: 1,", 0), 0u) << place;
  for (const char c : message + place) EXPECT_TRUE(c >= ' ' && c <= '~');
}

TEST(DefinitionJson, UnknownMembersAreWarnedOfWithTheNearestName) {
  const auto parsed = accepted(with_experiment(
      R"("trafic":0.5,"ticket":"A-1","variants":[{"key":"a","weigth":2},{"key":"b"}],"allocation":{"florr":0})"));
  const std::vector<std::string> expected = {
      "at /experiments/0/ticket: unknown member, ignored",
      "at /experiments/0/trafic: unknown member, ignored; did you mean \"traffic\"?",
      "at /experiments/0/variants/0/weigth: unknown member, ignored; did you mean \"weight\"?",
      "at /experiments/0/allocation/florr: unknown member, ignored; did you mean \"floor\"?"};
  EXPECT_EQ(parsed.warnings, expected);
}

TEST(DefinitionJson, WarningsAreCapped) {
  std::string text = R"({"schema":1,"experiments":[])";
  for (int i = 0; i < 150; ++i) text += ",\"unknown" + std::to_string(i) + "\":0";
  const auto warnings = accepted(text + "}").warnings;
  ASSERT_EQ(warnings.size(), 101u);
  EXPECT_EQ(warnings.back(), "and 50 more warnings");
}

TEST(DefinitionJson, CanonicalTextChangesWithWhatTheEdgeDoesAndWithNothingElse) {
  const auto canonical = [](const std::string& text) {
    const auto parsed = accepted(text);
    return parsed.canonical.empty() ? std::string("none") : parsed.canonical[0];
  };
  const std::string plain = R"("layer":"l",)" + kVariants;
  const std::string before = canonical(with_experiment(plain));
  EXPECT_EQ(canonical(with_experiment(R"("name":"x","owner":"y","plan":{},"jira":1, )" + plain)), before);
  EXPECT_EQ(canonical(with_experiment(kVariants + R"( , "layer" : "l")")), before);
  EXPECT_NE(canonical(with_experiment(R"("traffic":0.5,)" + plain)), before);
  std::string other_layer = with_experiment(plain);
  other_layer.replace(other_layer.find("0.1"), 3, "0.2");
  EXPECT_NE(canonical(other_layer), before);
  std::string other_holdout = with_experiment(plain);
  other_holdout.insert(1, R"("holdout":0.02,)");
  EXPECT_NE(canonical(other_holdout), before);
}

TEST(DefinitionJson, PlacedExperimentMustMatchItsLayer) {
  std::string error;
  const std::string experiment = R"({"experiment":{"key":"cta","layer":"l",)" + kVariants + R"(},"holdout":0.25,)";
  const auto placed = parse_placed(experiment + R"("layer":{"key":"l","holdout":0.5,"salt":"s"}})", error);
  ASSERT_TRUE(placed.has_value()) << error;
  EXPECT_EQ(placed->holdout, 0.25);
  EXPECT_EQ(placed->layer->holdout, 0.5);
  EXPECT_EQ(placed->layer->salt, "s");
  EXPECT_FALSE(parse_placed(experiment + R"("layer":null})", error).has_value());
  EXPECT_EQ(error, "at /layer: null, expected the layer that the experiment names");
  EXPECT_FALSE(parse_placed(experiment + R"("layer":{"key":"m"}})", error).has_value());
  EXPECT_FALSE(parse_placed("", error).has_value());
}

TEST(DefinitionJson, LimitsHold) {
  std::string many = R"({"schema":1,"experiments":[)";
  const auto one = [](int i) { return R"({"key":"e)" + std::to_string(i) + R"(","variants":[{"key":"a"}]})"; };
  for (int i = 0; i < 5000; ++i) many += (i ? "," : "") + one(i);
  EXPECT_EQ(accepted(many + "]}").document.experiments.size(), 5000u);
  EXPECT_EQ(refused(many + "," + one(5000) + "]}").rfind("at /experiments: [{", 0), 0u);
  const std::string padding(kMaxDocumentBytes - 31, ' ');
  EXPECT_TRUE(accepted(R"({"schema":1,"experiments":[]})" + padding).document.experiments.empty());
  EXPECT_NE(refused(R"({"schema":1,"experiments":[]})" + padding + "   ").find("4 MiB"), std::string::npos);
  std::string zeros = R"({"schema":1,"experiments":[],"x":[0)";
  for (std::size_t i = 0; i < kMaxJsonValues; ++i) zeros += ",0";
  EXPECT_NE(refused(zeros + "]}").find("expected at most 500000 values"), std::string::npos);
  const auto nested = [](int levels) {  // below the document and the member
    return R"({"schema":1,"experiments":[],"x":)" + std::string(levels, '[') + std::string(levels, ']') + "}";
  };
  accepted(nested(31));
  EXPECT_NE(refused(nested(32)).find("at most 32 levels"), std::string::npos);
  refused(std::string(kMaxDocumentBytes, '['));
}

// No prefix and no single changed byte of a good document does anything but parse or be refused.
TEST(DefinitionJson, DamagedTextsAreRefusedOrRead) {
  std::ifstream file("t/definitions/good/everything.json", std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  ASSERT_GT(text.size(), 1000u);
  const std::size_t whole = text.find_last_of('}') + 1;
  for (std::size_t size = 0; size < whole; ++size) refused(text.substr(0, size));
  for (std::size_t i = 0; i < whole; ++i) {
    for (const char c : {'\0', '"', '{', ']', '9', '\xFF'}) {
      std::string damaged = text;
      damaged[i] = c;
      DefinitionError error;
      if (!parse_document(damaged, error)) {
        ASSERT_FALSE(error.expected.empty());
      }
    }
  }
}

}  // namespace
}  // namespace experiment::shared
