#include "bandit/assignment.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <boost/math/distributions/chi_squared.hpp>
#include <nlohmann/json.hpp>

#include "bandit/slot_table.h"

namespace experiment::bandit {
namespace {

using nlohmann::json;

const json& vectors() {
  static const json all = json::parse(std::ifstream("t/vectors/assignment.json"));
  return all;
}

std::uint64_t from_hex(const json& text) {
  return std::stoull(text.get<std::string>(), nullptr, 16);
}

// Units as visitors have them: the hashes of consecutive names.
std::uint64_t unit(int i) {
  return unit_hash("visitor-" + std::to_string(i));
}

Experiment running(const std::string& salt) {
  Experiment e;
  e.key = e.salt = salt;
  e.desired = Desired::kRunning;
  e.variants.resize(2);
  e.variants[0].key = "control";
  e.variants[1].key = "green";
  return e;
}

// p value of independence in a table of counts (Pearson 1900), df = (rows - 1) (columns - 1).
template <std::size_t R, std::size_t C>
double independence_p(const std::array<std::array<double, C>, R>& counts) {
  std::array<double, R> rows{};
  std::array<double, C> columns{};
  double n = 0;
  for (std::size_t r = 0; r < R; ++r) {
    for (std::size_t c = 0; c < C; ++c) {
      rows[r] += counts[r][c];
      columns[c] += counts[r][c];
      n += counts[r][c];
    }
  }
  double chi2 = 0;
  for (std::size_t r = 0; r < R; ++r) {
    for (std::size_t c = 0; c < C; ++c) {
      const double expected = rows[r] * columns[c] / n;
      chi2 += (counts[r][c] - expected) * (counts[r][c] - expected) / expected;
    }
  }
  const boost::math::chi_squared law(static_cast<double>((R - 1) * (C - 1)));
  return boost::math::cdf(boost::math::complement(law, chi2));
}

double independence_p(std::uint64_t seed_a, std::uint64_t seed_b) {
  std::array<std::array<double, 10>, 10> counts{};
  for (int i = 0; i < 200000; ++i) {
    const std::uint64_t u = unit(i);
    ++counts[static_cast<std::size_t>(slot(draw(seed_a, u)) / 1000)]
            [static_cast<std::size_t>(slot(draw(seed_b, u)) / 1000)];
  }
  return independence_p(counts);
}

TEST(AssignmentVectors, UnitHash) {
  ASSERT_FALSE(vectors()["unit_hash"].empty());
  for (const json& row : vectors()["unit_hash"]) {
    EXPECT_EQ(unit_hash(row["unit"].get<std::string>()), from_hex(row["hash"])) << row;
  }
}

TEST(AssignmentVectors, SeedOf) {
  ASSERT_FALSE(vectors()["seed_of"].empty());
  for (const json& row : vectors()["seed_of"]) {
    const std::string salt = row["salt"], purpose = row["purpose"];
    EXPECT_EQ(seed_of(salt, purpose), from_hex(row["seed"])) << row;
  }
}

TEST(AssignmentVectors, DrawAndSlot) {
  ASSERT_FALSE(vectors()["draw"].empty());
  for (const json& row : vectors()["draw"]) {
    const std::uint64_t h = draw(from_hex(row["seed"]), from_hex(row["unit_hash"]));
    EXPECT_EQ(h, from_hex(row["draw"])) << row;
    EXPECT_EQ(slot(h), row["slot"].get<int>()) << row;
  }
  for (const json& row : vectors()["slot"]) EXPECT_EQ(slot(from_hex(row["h"])), row["slot"].get<int>()) << row;
}

TEST(AssignmentVectors, Below) {
  ASSERT_FALSE(vectors()["below"].empty());
  for (const json& row : vectors()["below"]) {
    EXPECT_EQ(Share(row["share"].get<double>()).below(from_hex(row["h"])), row["below"].get<bool>()) << row;
  }
}

// The reference entry xxh3_slots: the library is the published XXH3, and the slot is the 128-bit product.
TEST(AssignmentVectors, PublishedSlots) {
  const json stats = json::parse(std::ifstream("t/vectors/stats_public.json"));
  int checked = 0;
  for (const json& entry : stats["entries"]) {
    if (entry["id"] != "xxh3_slots") continue;
    for (const json& row : entry["expected"]["vectors"]) {
      const std::uint64_t h = from_hex(row["xxh3_64"]);
      EXPECT_EQ(slot(h), row["slot10000"].get<int>()) << row;
      if (row["seed"] == "0") {
        EXPECT_EQ(unit_hash(row["key"].get<std::string>()), h) << row;
      }
      ++checked;
    }
  }
  EXPECT_EQ(checked, 9);
}

Desired desired_of(const std::string& name) {
  static const std::array<std::string, 6> names{"draft", "running", "frozen", "stopped", "concluded", "archived"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) return static_cast<Desired>(i);
  }
  ADD_FAILURE() << name;
  return Desired::kDraft;
}

// The fields of a definition that decide an assignment.
Document document_of(const json& from) {
  Document document;
  document.holdout = from.value("holdout", 0.0);
  for (const json& layer : from.value("layers", json::array())) {
    document.layers.push_back(
        {layer["key"], layer.value("salt", layer["key"].get<std::string>()), layer.value("holdout", 0.0)});
  }
  for (const json& e : from["experiments"]) {
    Experiment experiment;
    experiment.key = e["key"];
    experiment.salt = e.value("salt", experiment.key);
    experiment.desired = desired_of(e["desired"]);
    experiment.layer = e.value("layer", "");
    const auto slice = e.value("slice", std::vector<double>{0, 1});
    experiment.slice_begin = static_cast<std::uint16_t>(std::llround(slice[0] * kSlots));
    experiment.slice_end = static_cast<std::uint16_t>(std::llround(slice[1] * kSlots));
    experiment.traffic = e.value("traffic", 1.0);
    experiment.policy.baseline = e["allocation"]["baseline"];
    experiment.winner = e.value("winner", "");
    experiment.holdback = e.value("holdback", 0.0);
    for (const json& v : e["variants"]) {
      if (v["key"] == e["control"]) experiment.control = experiment.variants.size();
      experiment.variants.emplace_back().key = v["key"];
    }
    document.experiments.push_back(experiment);
  }
  return document;
}

struct Decision {
  Reason reason;
  int arm;  // -1: not enrolled
};

Decision decide(const Rule& rule, const SlotTable& table, std::uint64_t u) {
  const Reason reason = gate(rule, u);
  if (reason == Reason::kConcluded) return {reason, rule.winner_arm};
  if (reason != Reason::kSplit) return {reason, -1};
  if (in_baseline(rule, u)) return {Reason::kBaseline, rule.control_arm};
  return {reason, table[static_cast<std::size_t>(arm_slot(rule, u))]};
}

TEST(AssignmentVectors, WholeDecisions) {
  std::set<std::string> reasons;
  for (const json& row : vectors()["decisions"]) {
    const Document document = document_of(row["document"]);
    for (const Experiment& e : document.experiments) {
      if (e.key != row["experiment"]) continue;
      const Rule rule = make_rule(document, e);
      const auto table = decode_runs(row["table"].get<std::string>(), static_cast<int>(e.variants.size()));
      ASSERT_TRUE(table);
      for (const json& expected : row["units"]) {
        const Decision got = decide(rule, *table, unit_hash(expected["unit"].get<std::string>()));
        EXPECT_EQ(reason_token(got.reason), expected["reason"].get<std::string>()) << e.key << expected;
        const std::string variant = got.arm < 0 ? "" : e.variants[static_cast<std::size_t>(got.arm)].key;
        EXPECT_EQ(variant, expected.value("variant", "")) << e.key << expected;
        reasons.insert(expected["reason"]);
      }
    }
  }
  const std::set<std::string> all{"split",  "baseline", "concluded", "draft", "stopped",
                                  "frozen", "holdout",  "holdback",  "layer", "traffic"};
  EXPECT_EQ(reasons, all);
}

TEST(Reason, TokensAreDistinctAndNamed) {
  std::set<std::string_view> tokens;
  for (int i = 0; i < static_cast<int>(Reason::kCount); ++i) tokens.insert(reason_token(static_cast<Reason>(i)));
  EXPECT_EQ(tokens.size(), static_cast<std::size_t>(Reason::kCount));
  EXPECT_EQ(tokens.count(""), 0U);
  EXPECT_EQ(reason_token(Reason::kSplit), "split");
  EXPECT_EQ(reason_token(Reason::kNoIdentity), "no_identity");
  EXPECT_EQ(reason_token(Reason::kZoneFull), "zone_full");
  EXPECT_EQ(reason_token(Reason::kCount), "error");
}

TEST(Share, IsExactAtBothEnds) {
  constexpr std::uint64_t kTop = std::numeric_limits<std::uint64_t>::max();
  for (double none : {0.0, -0.0, -1.0, -std::numeric_limits<double>::infinity(), std::nan("")}) {
    EXPECT_TRUE(Share(none).none());
    EXPECT_FALSE(Share(none).below(0));
  }
  for (double all : {1.0, 1.5, std::numeric_limits<double>::infinity()}) {
    EXPECT_TRUE(Share(all).all());
    EXPECT_TRUE(Share(all).below(kTop));
  }
  const Share nearly(std::nextafter(1.0, 0.0));  // 1 - 2^-53: the threshold is 2^64 - 2^11
  EXPECT_FALSE(nearly.all());
  EXPECT_TRUE(nearly.below(kTop - 2048));
  EXPECT_FALSE(nearly.below(kTop - 2047));
}

TEST(Rule, WinnerWithoutVariantIsControl) {
  Experiment e = running("checkout");
  e.control = 1;
  e.winner = "gone";
  EXPECT_EQ(make_rule({}, e).winner_arm, 1);
  e.winner = "control";
  EXPECT_EQ(make_rule({}, e).winner_arm, 0);
}

TEST(Rule, UnlistedLayerHasItsKeyAsSalt) {
  Experiment e = running("checkout");
  e.layer = "page";
  const Rule rule = make_rule({}, e);
  EXPECT_EQ(rule.layer_seed, seed_of("page", "layer"));
  EXPECT_TRUE(rule.layer_holdout.none());
}

// A memory-less gate: the same answer whatever was asked before, and for an experiment without layer the slice is no
// gate.
TEST(Gate, HoldoutsComeBeforeLayerAndTraffic) {
  Document document;
  document.holdout = 0.3;
  document.layers = {{"page", "page", 0.3}};
  Experiment e = running("checkout");
  e.layer = "page";
  e.slice_end = 5000;
  e.traffic = 0.5;
  const Rule rule = make_rule(document, e);
  for (int i = 0; i < 20000; ++i) {
    const std::uint64_t u = unit(i);
    const bool global = Share(0.3).below(draw(seed_of("", "holdout"), u));
    const bool layer = Share(0.3).below(draw(seed_of("page", "holdout"), u));
    const bool in_slice = slot(draw(seed_of("page", "layer"), u)) < 5000;
    const bool admitted = Share(0.5).below(draw(seed_of("checkout", "traffic"), u));
    const Reason expected = global || layer ? Reason::kHoldout
                            : !in_slice     ? Reason::kLayer
                            : !admitted     ? Reason::kTraffic
                                            : Reason::kSplit;
    ASSERT_EQ(gate(rule, u), expected) << i;
  }
}

TEST(Gate, SlicesOfALayerNeverShareAUnit) {
  Document document;
  document.layers = {{"page", "page", 0}};
  Experiment left = running("left"), right = running("right");
  left.layer = right.layer = "page";
  left.slice_end = right.slice_begin = 3333;
  const Rule l = make_rule(document, left), r = make_rule(document, right);
  for (int i = 0; i < 100000; ++i) {
    ASSERT_NE(gate(l, unit(i)) == Reason::kSplit, gate(r, unit(i)) == Reason::kSplit);
  }
}

TEST(Assignment, SharesAreTheWeights) {
  constexpr int kUnits = 1000000;
  for (const std::vector<double>& weights :
       {std::vector<double>{0.5, 0.5}, {0.7, 0.2, 0.1}, {0.19, 0.01, 0.05, 0.15, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1}}) {
    const Rule rule = make_rule({}, running("shares-" + std::to_string(weights.size())));
    const SlotTable table = contiguous_table(*quotas_of(weights));
    std::vector<int> counts(weights.size());
    for (int i = 0; i < kUnits; ++i) ++counts[table[static_cast<std::size_t>(arm_slot(rule, unit(i)))]];
    for (std::size_t arm = 0; arm < weights.size(); ++arm) {
      const double sigma = std::sqrt(kUnits * weights[arm] * (1 - weights[arm]));
      EXPECT_NEAR(counts[arm], kUnits * weights[arm], 4 * sigma) << arm << " of " << weights.size();
    }
  }
}

TEST(Assignment, ExperimentsAreIndependent) {
  EXPECT_GT(independence_p(seed_of("checkout", "arm"), seed_of("hero", "arm")), 1e-4);
  EXPECT_GT(independence_p(seed_of("exp-1", "arm"), seed_of("exp-2", "arm")), 1e-4);
}

TEST(Assignment, GatesAndArmAreIndependent) {
  for (const char* purpose : {"traffic", "baseline", "holdback"}) {
    EXPECT_GT(independence_p(seed_of("checkout", purpose), seed_of("checkout", "arm")), 1e-4) << purpose;
  }
  EXPECT_GT(independence_p(seed_of("", "holdout"), seed_of("checkout", "arm")), 1e-4);
  EXPECT_GT(independence_p(seed_of("checkout", "layer"), seed_of("checkout", "holdout")), 1e-4);
}

// The chi-square test would see a dependence: two draws of one seed.
TEST(Assignment, IndependenceTestHasPower) {
  EXPECT_LT(independence_p(seed_of("checkout", "arm"), seed_of("checkout", "arm")), 1e-100);
}

TEST(Assignment, RampingUpMovesNobodyOut) {
  Experiment e = running("ramp");
  e.policy.baseline = 0.1;
  const SlotTable table = contiguous_table(*quotas_of({1, 1}));
  constexpr int kUnits = 50000;
  std::vector<int> arm_before(kUnits, -1);
  int enrolled = 0;
  for (double traffic : {0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.9, 0.99, 1.0}) {
    e.traffic = traffic;
    const Rule rule = make_rule({}, e);
    enrolled = 0;
    for (int i = 0; i < kUnits; ++i) {
      const Decision now = decide(rule, table, unit(i));
      int& before = arm_before[static_cast<std::size_t>(i)];
      if (before >= 0) {
        ASSERT_EQ(now.arm, before) << i;
      }
      before = now.arm;
      enrolled += now.arm >= 0;
    }
    EXPECT_NEAR(enrolled, kUnits * traffic, 4 * std::sqrt(kUnits * traffic * (1 - traffic)));
  }
  EXPECT_EQ(enrolled, kUnits);
}

TEST(Assignment, BaselineIsAShareOfItsOwn) {
  Experiment e = running("base");
  e.policy.baseline = 0.1;
  const Rule rule = make_rule({}, e);
  constexpr int kUnits = 200000;
  int in = 0;
  for (int i = 0; i < kUnits; ++i) in += in_baseline(rule, unit(i));
  EXPECT_NEAR(in, kUnits * 0.1, 4 * std::sqrt(kUnits * 0.1 * 0.9));
  e.policy.baseline = 0;
  const Rule none = make_rule({}, e);
  for (int i = 0; i < 1000; ++i) ASSERT_FALSE(in_baseline(none, unit(i)));
}

}  // namespace
}  // namespace experiment::bandit
