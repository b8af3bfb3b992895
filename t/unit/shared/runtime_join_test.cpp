#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "bandit/slot_table.h"
#include "shared/kills.h"
#include "shared/reconcile.h"
#include "shared/runtime.h"
#include "t/unit/shared/experiment_fixture.h"

namespace experiment::shared {
namespace {

bool same(const Runtime& a, const Runtime& b) {
  return a.version == b.version && a.document == b.document && same_kills(a.kill_all, b.kill_all) &&
         a.experiments == b.experiments;
}

Runtime of(const ExperimentRuntime& experiment) {
  Runtime runtime;
  runtime.experiments["hero"] = experiment;
  return runtime;
}
ExperimentRuntime joined_hero(const ExperimentRuntime& a, const ExperimentRuntime& b) {
  return join(of(a), of(b)).experiments.at("hero");
}

std::vector<std::uint64_t> ids_of(const ExperimentRuntime& state) {
  std::vector<std::uint64_t> ids;
  for (const EpochRecord& epoch : state.epochs) ids.push_back(epoch.id);
  return ids;
}

ExperimentRuntime first_epoch(std::int64_t now_ms = 1000) {
  ExperimentRuntime state;
  state.generation_signature = 7;
  state.revision_signature = 8;
  state.arms = {"control", "green"};
  state.goals = {{"buy", bandit::GoalKind::kConversion, bandit::ValuePer::kFirst, 2, 0}};
  EXPECT_TRUE(start_epoch(state, {1, 1}, now_ms, 0));
  return state;
}

TEST(RuntimeJoin, TheHigherGenerationWinsWhollyButForKills) {
  ExperimentRuntime old = first_epoch(), fresh = first_epoch(5000);
  old.kills = {{"green", "slow", "ana", 1, 11}};
  old.revision = 9;
  fresh.generation = 2;
  fresh.revision = 2;
  fresh.arms = {"control", "blue"};
  fresh.kills = {{"", "broken", "ana", 2, 12}};
  for (const ExperimentRuntime& joined : {joined_hero(old, fresh), joined_hero(fresh, old)}) {
    EXPECT_EQ(joined.generation, 2u);
    EXPECT_EQ(joined.revision, 2u);
    EXPECT_EQ(joined.arms, fresh.arms);
    EXPECT_EQ(joined.epochs.size(), 1u);
    EXPECT_EQ(joined.started_ms, 5000);
    EXPECT_EQ(joined.kills.size(), 2u);
  }
}

TEST(RuntimeJoin, AnOlderCopyOfOneHistoryAddsNothing) {
  const ExperimentRuntime old = first_epoch();
  ExperimentRuntime now = old;
  now.arms.push_back("blue");
  now.goals.push_back({"revenue", bandit::GoalKind::kValue, bandit::ValuePer::kTotal, 2, 500});
  now.revision = 2;
  now.revision_signature = 99;
  ASSERT_TRUE(start_epoch(now, {1, 1, 2}, 9000, 5));
  now.epochs.front().sealed = true;
  EXPECT_TRUE(joined_hero(old, now) == now);
  EXPECT_TRUE(joined_hero(now, old) == now);
  EXPECT_TRUE(joined_hero(now, now) == now);
}

// Two allocators went on from one state, each without the other.
TEST(RuntimeJoin, EpochsOfBothSidesAreKeptAndTheHighestAssigns) {
  ExperimentRuntime a = first_epoch(), b = a;
  ASSERT_TRUE(start_epoch(a, {1, 3}, 2000, 7));
  ASSERT_TRUE(start_epoch(b, {3, 1}, 2500, 9));
  const ExperimentRuntime joined = joined_hero(a, b);
  EXPECT_EQ(ids_of(joined), (std::vector<std::uint64_t>{1 << 20, (2 << 20) + 7, (2 << 20) + 9}));
  EXPECT_EQ(joined.runs, b.runs);
  EXPECT_EQ(joined.epochs[0].ended_ms, 2000) << "the earlier end";
  EXPECT_EQ(joined.epochs[1].ended_ms, 2500) << "where its successor begins";
  EXPECT_EQ(joined.epochs[2].ended_ms, 0);
  EXPECT_EQ(joined.started_ms, 1000);
}

TEST(RuntimeJoin, AnEpochDoesNotEndBeforeItBegan) {
  ExperimentRuntime a = first_epoch(), b = a;
  ASSERT_TRUE(start_epoch(a, {1, 3}, 2500, 7));
  ASSERT_TRUE(start_epoch(b, {3, 1}, 2000, 9));  // the clock of its machine is behind
  EXPECT_EQ(joined_hero(a, b).epochs[1].ended_ms, 2500);
}

TEST(RuntimeJoin, SealedOrEndedOnEitherSideWins) {
  ExperimentRuntime a = first_epoch();
  ASSERT_TRUE(start_epoch(a, {1, 3}, 2000, 7));
  ExperimentRuntime b = a;
  a.epochs[0].sealed = true;
  b.epochs[0].ended_ms = 1900;
  const EpochRecord first = joined_hero(a, b).epochs[0];
  EXPECT_TRUE(first.sealed);
  EXPECT_EQ(first.ended_ms, 1900);
}

// Both sides numbered a new variant, and the side that has more of them lost.
TEST(RuntimeJoin, WhatTheLosersEpochsCountedHasPlacesWithoutNames) {
  ExperimentRuntime a = first_epoch(), b = a;
  a.arms = {"control", "green", "blue", "red"};
  a.goals.push_back({"revenue", bandit::GoalKind::kValue, bandit::ValuePer::kTotal, 2, 500});
  ASSERT_TRUE(start_epoch(a, {1, 1, 1, 1}, 2000, 7));
  b.arms = {"control", "green", "pink"};
  ASSERT_TRUE(start_epoch(b, {1, 1, 1}, 2500, 9));
  ExperimentRuntime joined = joined_hero(a, b);
  EXPECT_EQ(joined.arms, (std::vector<std::string>{"control", "green", "pink", "@3"}));
  ASSERT_EQ(joined.goals.size(), 2u);
  EXPECT_EQ(joined.goals[1].key, "@1");
  std::string error;
  EXPECT_TRUE(decode_experiment_runtime(encode_experiment_runtime(joined), error)) << error;
  EXPECT_TRUE(joined_hero(joined, joined) == joined);
  EXPECT_TRUE(joined_hero(joined, a) == joined);
  // What is numbered later is numbered behind them.
  Runtime runtime = of(joined);
  bandit::Experiment experiment = make_experiment("hero", {1, 1, 1, 1});
  runtime.experiments["hero"].generation_signature = 0;
  reconcile(document_of({experiment}), runtime, 3000, seeded_bits(1));
  EXPECT_EQ(runtime.experiments["hero"].generation, 2u) << "another salt than this test's made-up one";
}

TEST(RuntimeJoin, AKillFromBeforeTheExperimentRanTakesNothingAway) {
  ExperimentRuntime killed;
  killed.kills = {{"green", "slow", "ana", 1, 11}};
  ExperimentRuntime joined = joined_hero(first_epoch(), killed);
  EXPECT_EQ(joined.arms.size(), 2u);
  EXPECT_EQ(kill_mask(joined), 2u);
  joined.kills.clear();
  EXPECT_TRUE(joined == first_epoch());
}

TEST(RuntimeJoin, VersionsAndExperimentsOfBoth) {
  Runtime a = of(first_epoch()), b;
  a.version = 5;
  a.document = 2;
  b.version = 3;
  b.document = 4;
  b.kill_all = {{"", "fire", "ana", 1, 21}};
  b.experiments["other"] = first_epoch();
  const Runtime joined = join(a, b);
  EXPECT_EQ(joined.version, 5u);
  EXPECT_EQ(joined.document, 4u);
  EXPECT_EQ(joined.kill_all.size(), 1u);
  EXPECT_EQ(joined.experiments.size(), 2u);
}

TEST(RuntimeEquality, SeesEveryMemberAndNotTheOrderOfKills) {
  const ExperimentRuntime base = first_epoch();
  std::vector<ExperimentRuntime> others(12, base);
  others[0].generation = 2;
  others[1].generation_signature = 1;
  others[2].revision = 2;
  others[3].revision_signature = 1;
  others[4].arms[0] = "x";
  others[5].goals[0].max = 1;
  others[6].kills.push_back({});
  others[7].epochs[0].sealed = true;
  others[8].epochs[0].goals = 0;
  others[9].runs = "x";
  others[10].started_ms = 1;
  others[11].epochs[0].quotas = {10000};
  for (std::size_t i = 0; i < others.size(); ++i) EXPECT_FALSE(others[i] == base) << i;
  ExperimentRuntime a = base, b = base;
  a.kills = {{"", "x", "y", 1, 1}, {"", "x", "y", 2, 2}};
  b.kills = {a.kills[1], a.kills[0]};
  EXPECT_TRUE(a == b);
  b.kills[0].lifted = Lift{};
  EXPECT_FALSE(a == b);
}

// Copies of one state that went apart and together again, some of them more than once, as nodes and a store that
// forgets would do it: everything that an allocator, a resume or a document may do, by clocks that are apart. Ids of
// few random bits, so that some epochs of two sides have one id, too.
class RuntimeJoinProperties : public ::testing::Test {
 protected:
  std::uint64_t below(std::uint64_t n) { return random_() % n; }

  void change(ExperimentRuntime& state) {
    now_ms_ += 1 + static_cast<std::int64_t>(below(50));
    const std::int64_t now_ms = now_ms_ + static_cast<std::int64_t>(below(3)) * 40;
    switch (below(9)) {
      case 0:
      case 1:
        start(state, now_ms);
        break;
      case 2:
        if (state.arms.size() < 6) state.arms.push_back("v" + std::to_string(below(8)));
        break;
      case 3:
        if (state.goals.size() < 4) add_goal(state);
        break;
      case 4:
        if (state.epochs.size() > 1) state.epochs[below(state.epochs.size() - 1)].sealed = true;
        break;
      case 5:
        state.kills.push_back({below(2) == 0 ? "" : "v1", "slow", "ana", now_ms, below(4) == 0 ? 0 : random_()});
        break;
      case 6:
        lift_kills(state.kills, below(2) == 0 ? "" : "v1", {"bob", "mended", now_ms});
        break;
      case 7:
        ++state.revision;
        state.revision_signature = below(4);
        break;
      default:
        if (below(6) == 0) begin_again(state);
    }
  }
  void start(ExperimentRuntime& state, std::int64_t now_ms) {
    std::vector<double> weights;
    for (std::size_t i = 0; i < state.arms.size(); ++i) weights.push_back(static_cast<double>(1 + below(4)));
    if (!weights.empty()) start_epoch(state, weights, now_ms, below(8));
  }
  void add_goal(ExperimentRuntime& state) {
    const bool value = below(2) == 0;
    state.goals.push_back({"g" + std::to_string(below(5)),
                           value ? bandit::GoalKind::kValue : bandit::GoalKind::kConversion, bandit::ValuePer::kFirst,
                           2, value ? below(3) : 0});
  }
  void begin_again(ExperimentRuntime& state) {
    ++state.generation;
    ++state.revision;
    state.generation_signature = below(3);
    state.arms.clear();
    state.goals.clear();
    state.epochs.clear();
    state.runs.clear();
    state.started_ms = 0;
  }
  void change(Runtime& runtime) {
    change(runtime.experiments[below(4) == 0 ? "other" : "hero"]);
    ++runtime.version;
    if (below(4) == 0) runtime.document = below(9);
    if (below(8) == 0) runtime.kill_all.push_back({"", "fire", "ana", now_ms_, random_()});
    if (below(8) == 0) lift_kills(runtime.kill_all, "", {"bob", "out", now_ms_});
  }
  // Three copies with a common past, and some of what the others know.
  std::vector<Runtime> copies() {
    std::vector<Runtime> copies(3);
    for (std::uint64_t i = below(12); i > 0; --i) change(copies[0]);
    copies[1] = copies[2] = copies[0];
    for (std::uint64_t i = below(30); i > 0; --i) {
      change(copies[below(3)]);
      if (below(12) == 0) copies[below(3)] = join(copies[below(3)], copies[below(3)]);
    }
    return copies;
  }

  std::mt19937_64 random_{17};
  std::int64_t now_ms_ = 1'700'000'000'000;
};

// Of everything that `part` knows, something is in `whole`.
void expect_nothing_lost(const Runtime& part, const Runtime& whole) {
  for (const auto& [key, state] : part.experiments) {
    const ExperimentRuntime& joined = whole.experiments.at(key);
    ASSERT_GE(joined.generation, state.generation);
    for (const Kill& kill : state.kills) {
      const auto is_it = [&, stands = kill.stands()](const Kill& other) {
        return identity_of(other) == identity_of(kill) && (stands || !other.stands());
      };
      ASSERT_TRUE(std::any_of(joined.kills.begin(), joined.kills.end(), is_it));
    }
    if (joined.generation != state.generation) continue;
    ASSERT_GE(joined.revision, state.revision);
    const auto ids = ids_of(joined), before = ids_of(state);
    ASSERT_TRUE(std::includes(ids.begin(), ids.end(), before.begin(), before.end()));
    for (const EpochRecord& epoch : state.epochs) {
      const auto same_id = [&](const EpochRecord& other) { return other.id == epoch.id; };
      const auto& now = *std::find_if(joined.epochs.begin(), joined.epochs.end(), same_id);
      ASSERT_TRUE(!epoch.sealed || now.sealed);
      ASSERT_TRUE(epoch.ended_ms == 0 || (now.ended_ms != 0 && now.ended_ms <= epoch.ended_ms));
      ASSERT_GE(now.quotas.size(), epoch.quotas.size());
    }
  }
}

void expect_valid(const Runtime& runtime) {
  std::string error;
  const auto decoded = decode_runtime(encode_runtime(runtime), error);
  ASSERT_TRUE(decoded) << error;
  ASSERT_TRUE(same(*decoded, runtime));
  for (const auto& [key, state] : runtime.experiments) {
    if (state.epochs.empty()) continue;
    for (std::size_t i = 0; i < state.epochs.size(); ++i) {
      ASSERT_EQ(state.epochs[i].ended_ms == 0, i + 1 == state.epochs.size());
    }
    const auto& quotas = state.epochs.back().quotas;
    const auto table = bandit::decode_runs(state.runs, static_cast<int>(quotas.size()));
    ASSERT_TRUE(table);
    ASSERT_EQ(bandit::quotas_in(*table, static_cast<int>(quotas.size())), quotas) << "the table is the last epoch's";
  }
}

TEST_F(RuntimeJoinProperties, HoldForCopiesThatWentApart) {
  int forks = 0;
  for (int round = 0; round < 3000; ++round) {
    SCOPED_TRACE(round);
    const auto all = copies();
    const Runtime &a = all[0], &b = all[1], &c = all[2];
    const Runtime ab = join(a, b);
    ASSERT_TRUE(same(ab, join(b, a)));
    ASSERT_TRUE(same(join(ab, c), join(a, join(b, c))));
    ASSERT_TRUE(same(join(join(c, a), b), join(ab, c)));
    ASSERT_TRUE(same(join(ab, ab), ab));
    ASSERT_TRUE(same(join(ab, a), ab));
    ASSERT_NO_FATAL_FAILURE(expect_nothing_lost(a, ab));
    ASSERT_NO_FATAL_FAILURE(expect_nothing_lost(b, ab));
    ASSERT_NO_FATAL_FAILURE(expect_valid(ab));
    ASSERT_NO_FATAL_FAILURE(expect_valid(join(ab, c)));
    forks += a.experiments != b.experiments;
  }
  EXPECT_GT(forks, 2000) << "the copies were apart";
}

// What one allocator with a clock that goes forward made is what the join makes of it.
TEST_F(RuntimeJoinProperties, IdempotentForEveryStateOfOneHistory) {
  for (int round = 0; round < 500; ++round) {
    Runtime runtime;
    for (std::uint64_t i = below(40); i > 0; --i) {
      now_ms_ += 100;
      change(runtime);
      now_ms_ += 100;
      ASSERT_TRUE(same(join(runtime, runtime), runtime)) << round;
    }
  }
}

}  // namespace
}  // namespace experiment::shared
