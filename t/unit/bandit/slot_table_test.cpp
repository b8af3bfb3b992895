#include "bandit/slot_table.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "bandit/assignment.h"

namespace experiment::bandit {
namespace {

using nlohmann::json;

const json& vectors() {
  static const json all = json::parse(std::ifstream("t/vectors/assignment.json"));
  return all;
}

int slots_moved(const SlotTable& before, const SlotTable& after) {
  int moved = 0;
  for (std::size_t s = 0; s < kSlots; ++s) moved += before[s] != after[s];
  return moved;
}

// Total-variation distance of two weight vectors, in slots. Arms that only one of them has weigh nothing in the other.
double distance(std::vector<double> p, std::vector<double> q) {
  p.resize(std::max(p.size(), q.size()));
  q.resize(p.size());
  const double p_sum = std::accumulate(p.begin(), p.end(), 0.0), q_sum = std::accumulate(q.begin(), q.end(), 0.0);
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) sum += std::abs(p[i] / p_sum - q[i] / q_sum);
  return sum / 2 * kSlots;
}

// Weights as changes produce them: some arms at zero, some tiny, at least one above.
std::vector<double> random_weights(std::mt19937_64& rng, std::size_t arms) {
  std::vector<double> weights(arms);
  for (double& w : weights) {
    const double u = std::uniform_real_distribution<>(0, 1)(rng);
    w = rng() % 5 == 0 ? 0 : rng() % 5 == 0 ? u * 1e-4 : u;
  }
  weights[rng() % arms] = 1;
  return weights;
}

// No unit moves between arms that neither grew nor shrank: a slot changes hands only from one that shrank (or is gone)
// to one that grew.
void expect_only_needed_moves(const SlotTable& before, const Quotas& old_quotas, const SlotTable& after,
                              const Quotas& quotas) {
  for (std::size_t s = 0; s < kSlots; ++s) {
    if (before[s] == after[s]) continue;
    if (before[s] < quotas.size()) {
      ASSERT_LT(quotas[before[s]], old_quotas[before[s]]) << s;
    }
    if (after[s] < old_quotas.size()) {
      ASSERT_GT(quotas[after[s]], old_quotas[after[s]]) << s;
    }
  }
}

TEST(QuotasVectors, AreReproduced) {
  ASSERT_FALSE(vectors()["quotas"].empty());
  for (const json& row : vectors()["quotas"]) {
    const auto quotas = quotas_of(row["weights"].get<std::vector<double>>());
    EXPECT_EQ(quotas ? json(*quotas) : json(nullptr), row["quotas"]) << row;
  }
}

TEST(SlotTableVectors, FirstTables) {
  ASSERT_FALSE(vectors()["first_table"].empty());
  for (const json& row : vectors()["first_table"]) {
    EXPECT_EQ(encode_runs(contiguous_table(row["quotas"].get<Quotas>())), row["runs"].get<std::string>());
  }
}

TEST(SlotTableVectors, MovedTables) {
  ASSERT_FALSE(vectors()["moved_table"].empty());
  for (const json& row : vectors()["moved_table"]) {
    const auto before = decode_runs(row["before"].get<std::string>(), kMaxArms);
    ASSERT_TRUE(before) << row;
    const SlotTable after = moved_table(*before, row["quotas"].get<Quotas>());
    EXPECT_EQ(encode_runs(after), row["after"].get<std::string>());
  }
}

TEST(SlotTableVectors, BadRunsAreRefused) {
  ASSERT_FALSE(vectors()["bad_runs"].empty());
  for (const json& row : vectors()["bad_runs"]) {
    EXPECT_FALSE(decode_runs(row["runs"].get<std::string>(), row["arms"].get<int>())) << row;
  }
}

TEST(Quotas, RefusesWhatIsNoWeight) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  EXPECT_FALSE(quotas_of({}));
  EXPECT_FALSE(quotas_of({0, 0}));
  EXPECT_FALSE(quotas_of({1, -1e-9}));
  EXPECT_FALSE(quotas_of({1, std::nan("")}));
  EXPECT_FALSE(quotas_of({1, kInfinity}));
  EXPECT_FALSE(quotas_of({std::numeric_limits<double>::max(), std::numeric_limits<double>::max()}));
  EXPECT_FALSE(quotas_of(std::vector<double>(kMaxArms + 1, 1)));
}

TEST(Quotas, AreWithinOneSlotOfTheWeights) {
  std::mt19937_64 rng(11);
  for (int round = 0; round < 5000; ++round) {
    const auto weights = random_weights(rng, 1 + rng() % kMaxArms);
    const auto quotas = quotas_of(weights);
    ASSERT_TRUE(quotas);
    ASSERT_EQ(std::accumulate(quotas->begin(), quotas->end(), 0), kSlots);
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (std::size_t arm = 0; arm < weights.size(); ++arm) {
      ASSERT_LT(std::abs((*quotas)[arm] - weights[arm] / sum * kSlots), 1 + 1e-9);
      if (weights[arm] == 0) {
        ASSERT_EQ((*quotas)[arm], 0);
      }
    }
  }
}

TEST(SlotTable, AnyChangeMovesTheTotalVariationDistance) {
  std::mt19937_64 rng(12);
  for (int chain = 0; chain < 200; ++chain) {
    std::vector<double> weights = random_weights(rng, 1 + rng() % kMaxArms);
    Quotas quotas = *quotas_of(weights);
    SlotTable table = contiguous_table(quotas);
    for (int step = 0; step < 10; ++step) {
      const auto new_weights = random_weights(rng, 1 + rng() % kMaxArms);  // arms come and go too
      const Quotas new_quotas = *quotas_of(new_weights);
      const SlotTable after = moved_table(table, new_quotas);
      ASSERT_EQ(quotas_in(after, static_cast<int>(new_quotas.size())), new_quotas);
      int least = 0;  // slots that growing arms lack: any scheme has to move these
      for (std::size_t arm = 0; arm < new_quotas.size(); ++arm) {
        least += std::max(0, new_quotas[arm] - (arm < quotas.size() ? quotas[arm] : 0));
      }
      ASSERT_EQ(slots_moved(table, after), least);
      const double arms = static_cast<double>(std::max(weights.size(), new_weights.size()));
      ASSERT_NEAR(least, distance(weights, new_weights), arms);
      expect_only_needed_moves(table, quotas, after, new_quotas);
      weights = new_weights;
      quotas = new_quotas;
      table = after;
    }
  }
}

// The reference entry slot_movement: the total-variation distance is the minimum that any scheme can reach.
TEST(SlotTable, PublishedMovement) {
  const json stats = json::parse(std::ifstream("t/vectors/stats_public.json"));
  int checked = 0;
  for (const json& entry : stats["entries"]) {
    if (entry["id"] != "slot_movement") continue;
    const json& cases = entry["inputs"]["cases"];
    for (std::size_t i = 0; i < cases.size(); ++i, ++checked) {
      const auto from = cases[i][0].get<std::vector<double>>(), to = cases[i][1].get<std::vector<double>>();
      const double tv = entry["expected"]["tv"][i];
      EXPECT_NEAR(distance(from, to) / kSlots, tv, 1e-12);
      const SlotTable before = contiguous_table(*quotas_of(from));
      EXPECT_NEAR(slots_moved(before, moved_table(before, *quotas_of(to))), tv * kSlots, 1.0) << i;
    }
  }
  EXPECT_EQ(checked, 3);
}

TEST(SlotTable, SameQuotasMoveNothing) {
  const SlotTable before = moved_table(contiguous_table({2500, 5000, 2500}), {5000, 2500, 2500});
  EXPECT_EQ(moved_table(before, {5000, 2500, 2500}), before);
}

TEST(SlotTable, ShrinkingArmsGiveUpTheirHighestSlots) {
  EXPECT_EQ(encode_runs(moved_table(contiguous_table({5000, 5000}), {7500, 2500})), "0*5000,1*2500,0*2500");
  EXPECT_EQ(encode_runs(moved_table(contiguous_table({6000, 3000, 1000}), {4000, 2000, 1000, 1500, 1500})),
            "0*4000,3*1500,4*500,1*2000,4*1000,2*1000");
}

TEST(SlotTable, ANewArmTakesUnitsOnlyToItself) {
  const SlotTable before = contiguous_table(*quotas_of({1, 1}));
  const SlotTable after = moved_table(before, *quotas_of({1, 1, 1}));
  const std::uint64_t seed = seed_of("new-arm", "arm");
  constexpr int kUnits = 100000;
  int taken = 0;
  for (int i = 0; i < kUnits; ++i) {
    const auto s = static_cast<std::size_t>(slot(draw(seed, unit_hash("visitor-" + std::to_string(i)))));
    if (before[s] == after[s]) continue;
    ASSERT_EQ(after[s], 2);
    ++taken;
  }
  EXPECT_NEAR(taken, kUnits / 3.0, 4 * std::sqrt(kUnits * (1 / 3.0) * (2 / 3.0)));
}

TEST(SlotTable, SlotsOfArmsThatAreGoneAreReleased) {
  const SlotTable before = contiguous_table({2000, 3000, 5000});
  const SlotTable after = moved_table(before, {5000, 5000});
  EXPECT_EQ(encode_runs(after), "0*2000,1*3000,0*3000,1*2000");
}

TEST(QuotasIn, IgnoresOtherArms) {
  EXPECT_EQ(quotas_in(contiguous_table({2000, 3000, 5000}), 2), (Quotas{2000, 3000}));
  EXPECT_EQ(quotas_in(contiguous_table({10000}), 3), (Quotas{10000, 0, 0}));
}

TEST(Runs, RoundTrip) {
  std::mt19937_64 rng(13);
  for (int round = 0; round < 300; ++round) {
    const int arms = 1 + static_cast<int>(rng() % kMaxArms);
    SlotTable table{};
    std::uint8_t arm = 0;
    for (std::uint8_t& owner : table) {
      if (rng() % 50 == 0) arm = static_cast<std::uint8_t>(rng() % static_cast<unsigned>(arms));
      owner = arm;
    }
    EXPECT_EQ(decode_runs(encode_runs(table), arms), table);
  }
}

// One text for one table: whatever is accepted is what encode_runs writes.
TEST(Runs, MutatedTextsAreRefusedOrCanonical) {
  std::mt19937_64 rng(14);
  const std::string text = encode_runs(contiguous_table({3334, 3333, 3333}));
  const std::string alphabet = "0123456789*,+- x";
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string mutant = text;
    const std::size_t at = rng() % mutant.size();
    switch (rng() % 3) {
      case 0:
        mutant[at] = alphabet[rng() % alphabet.size()];
        break;
      case 1:
        mutant.erase(at, 1 + rng() % 3);
        break;
      default:
        mutant.insert(at, 1, alphabet[rng() % alphabet.size()]);
    }
    const auto table = decode_runs(mutant, 3);
    if (table) {
      EXPECT_EQ(encode_runs(*table), mutant);
    }
    refused += !table;
  }
  EXPECT_GT(refused, 10000);
}

}  // namespace
}  // namespace experiment::bandit
