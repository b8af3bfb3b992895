#include "shared/reconcile.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "bandit/epoch.h"
#include "shared/zone_layout.h"
#include "t/unit/shared/experiment_fixture.h"

namespace experiment::shared {
namespace {

using bandit::Desired;
using bandit::Experiment;
using bandit::GoalKind;
using bandit::Quotas;
using bandit::ValuePer;

// A document of one experiment that changes, and the runtime state beside it.
class Reconcile : public ::testing::Test {
 protected:
  std::vector<Change> run(const Experiment& experiment) {
    now_ms_ += 1000;
    const bandit::Document document = document_of({experiment});
    auto changes = reconcile(document, runtime_, now_ms_, random_);
    const std::string once = encode_runtime(runtime_);
    EXPECT_TRUE(reconcile(document, runtime_, now_ms_, random_).empty()) << "the second time changes nothing";
    EXPECT_EQ(encode_runtime(runtime_), once);
    std::string error;
    EXPECT_TRUE(decode_runtime(once, error)) << "the store takes it: " << error;
    return changes;
  }
  bool says(const std::vector<Change>& changes, const std::string& text) {
    for (const auto& change : changes) {
      if (change.experiment == "hero" && change.what.find(text) != std::string::npos) return true;
    }
    return false;
  }
  ExperimentRuntime& state() { return runtime_.experiments.at("hero"); }
  bandit::SlotTable table() {
    return *bandit::decode_runs(state().runs, static_cast<int>(state().epochs.back().quotas.size()));
  }

  Runtime runtime_;
  std::int64_t now_ms_ = 1'700'000'000'000;
  RandomBits random_ = seeded_bits(1);
};

int moved(const bandit::SlotTable& a, const bandit::SlotTable& b) {
  int count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += a[i] != b[i];
  return count;
}

TEST_F(Reconcile, TheFirstRunIsContiguousInTheDefinitionsOrder) {
  const auto changes = run(make_experiment("hero", {1, 2, 1}));
  EXPECT_TRUE(says(changes, "first seen"));
  EXPECT_TRUE(says(changes, "variant \"v2\" is arm 2"));
  EXPECT_TRUE(says(changes, "goal \"buy\" is goal 0"));
  EXPECT_TRUE(says(changes, "first allocation"));
  EXPECT_EQ(state().generation, 1u);
  EXPECT_EQ(state().revision, 1u);
  EXPECT_EQ(state().runs, "0*2500,1*5000,2*2500");
  ASSERT_EQ(state().epochs.size(), 1u);
  EXPECT_EQ(bandit::epoch_number(state().epochs[0].id), 1u);
  EXPECT_EQ(state().epochs[0].ended_ms, 0);
  EXPECT_EQ(state().epochs[0].goals, 1);
  EXPECT_EQ(state().started_ms, now_ms_);
}

TEST_F(Reconcile, ADraftIsNumberedAndHasNoEpoch) {
  for (const Desired desired :
       {Desired::kDraft, Desired::kStopped, Desired::kFrozen, Desired::kConcluded, Desired::kArchived}) {
    runtime_ = {};
    Experiment experiment = make_experiment("hero", {1, 1});
    experiment.desired = desired;
    run(experiment);
    EXPECT_EQ(state().arms.size(), 2u);
    EXPECT_TRUE(state().epochs.empty());
  }
}

TEST_F(Reconcile, WhatThisBuildLacksIsLeftAlone) {
  Experiment experiment = make_experiment("hero", {1, 1});
  experiment.not_in_build = "targeting";
  EXPECT_TRUE(run(experiment).empty());
  EXPECT_TRUE(runtime_.experiments.empty());
}

TEST_F(Reconcile, RedefinedBeforeItRanNothingOfThePastRemains) {
  Experiment experiment = make_experiment("hero", {1, 1, 1});
  experiment.desired = Desired::kDraft;
  run(experiment);
  experiment.variants = {{"x", 1, {}}, {"control", 3, {}}};
  experiment.control = 1;
  experiment.goals = {{"revenue", GoalKind::kValue, ValuePer::kTotal, 86400, 2, 500}, {"buy"}};
  experiment.salt = "other";
  experiment.policy.baseline = 0.1;
  EXPECT_TRUE(says(run(experiment), "redefined before it ran"));
  experiment.goals[0].max = 700;
  EXPECT_TRUE(says(run(experiment), "redefined before it ran"));
  std::swap(experiment.variants[0], experiment.variants[1]);
  experiment.control = 0;
  EXPECT_TRUE(says(run(experiment), "redefined before it ran"));
  EXPECT_EQ(state().generation, 1u) << "nobody was ever assigned";
  EXPECT_EQ(state().revision, 1u) << "nothing was ever stored in a cache";
  EXPECT_EQ(state().arms, (std::vector<std::string>{"control", "x"}));
  ASSERT_EQ(state().goals.size(), 2u);
  EXPECT_EQ(state().goals[0].max, 700u);
  experiment.desired = Desired::kRunning;
  run(experiment);
  EXPECT_EQ(state().runs, "0*7500,1*2500");
}

TEST_F(Reconcile, ADraftMayBeRedefinedAnyNumberOfTimes) {
  Experiment experiment = make_experiment("hero", {1, 1});
  experiment.desired = Desired::kDraft;
  for (int i = 0; i < 30; ++i) {
    experiment.variants[1].key = "name-" + std::to_string(i);
    experiment.goals[0].key = "goal-" + std::to_string(i);
    run(experiment);
  }
  EXPECT_EQ(state().generation, 1u);
  EXPECT_EQ(state().arms.size(), 2u);
  EXPECT_EQ(state().goals.size(), 1u);
}

TEST_F(Reconcile, NewWeightsOfAFixedOneAreAnEpochByLeastMovement) {
  run(make_experiment("hero", {1, 1, 1}));
  const bandit::SlotTable before = table();
  const std::uint64_t first = state().epochs[0].id;
  EXPECT_TRUE(says(run(make_experiment("hero", {2, 1, 1})), "weights changed"));
  ASSERT_EQ(state().epochs.size(), 2u);
  EXPECT_EQ(state().epochs[0].id, first);
  EXPECT_EQ(state().epochs[0].ended_ms, now_ms_);
  EXPECT_FALSE(state().epochs[0].sealed);
  EXPECT_GT(state().epochs[1].id, first);
  EXPECT_EQ(state().epochs[1].quotas, (Quotas{5000, 2500, 2500}));
  EXPECT_EQ(moved(before, table()), 5000 - state().epochs[0].quotas[0]) << "the total-variation distance, no more";
  EXPECT_EQ(state().generation, 1u);
  EXPECT_EQ(state().revision, 1u) << "weights are not part of a page";
  EXPECT_TRUE(run(make_experiment("hero", {4, 2, 2})).empty()) << "the same shares";
}

TEST_F(Reconcile, AnAdaptiveOneKeepsWhatItLearned) {
  run(make_bandit("hero", {1, 1}));
  ASSERT_TRUE(start_epoch(state(), {0.8, 0.2}, now_ms_, 5));
  EXPECT_TRUE(run(make_bandit("hero", {1, 1})).empty());
  EXPECT_TRUE(run(make_bandit("hero", {5, 1})).empty()) << "declared weights are for the warm-up";
  EXPECT_EQ(state().epochs.back().quotas, (Quotas{8000, 2000}));
  run(make_bandit("hero", {1, 1, 1}));
  EXPECT_EQ(state().epochs.back().quotas, (Quotas{3334, 3333, 3333})) << "a newcomer resets the shares";
}

TEST_F(Reconcile, WithoutAFloorAShareOfNothingStays) {
  Experiment experiment = make_bandit("hero", {1, 1});
  experiment.policy.floor = 0;
  run(experiment);
  ASSERT_TRUE(start_epoch(state(), {1, 0}, now_ms_, 5));
  EXPECT_TRUE(run(experiment).empty());
  EXPECT_EQ(state().epochs.back().quotas, (Quotas{10000, 0}));
}

TEST_F(Reconcile, AKilledArmsEmptyShareIsNoChangeUntilItIsResumed) {
  const Experiment experiment = make_bandit("hero", {1, 1, 1});
  run(experiment);
  state().kills.push_back({"v1", "slow", "experimentctl", 1});
  EXPECT_TRUE(run(experiment).empty()) << "it still owns its slots: the allocator's matter";
  ASSERT_TRUE(start_epoch(state(), {0.5, 0, 0.5}, now_ms_, 5));
  EXPECT_TRUE(run(experiment).empty());
  EXPECT_EQ(state().kills.size(), 1u);
  state().kills.front().lifted = Lift{"ana", "mended", 2};
  EXPECT_TRUE(says(run(experiment), "variants with weight changed"));
  EXPECT_EQ(state().epochs.back().quotas, (Quotas{3334, 3333, 3333}));
}

TEST_F(Reconcile, ANewArmTakesUnitsOnlyToItself) {
  run(make_experiment("hero", {1, 1}));
  const bandit::SlotTable before = table();
  const auto changes = run(make_experiment("hero", {1, 1, 2}));
  EXPECT_TRUE(says(changes, "variant \"v2\" is arm 2"));
  EXPECT_TRUE(says(changes, "revision 2"));
  const bandit::SlotTable after = table();
  for (std::size_t s = 0; s < before.size(); ++s) ASSERT_TRUE(after[s] == before[s] || after[s] == 2);
  EXPECT_EQ(state().generation, 1u);
}

TEST_F(Reconcile, ADroppedVariantKeepsItsNumberAndLosesItsSlots) {
  run(make_experiment("hero", {1, 1, 1}));
  Experiment without = make_experiment("hero", {1, 1, 1});
  without.variants.erase(without.variants.begin() + 1);
  EXPECT_TRUE(says(run(without), "revision 2"));
  EXPECT_EQ(state().arms, (std::vector<std::string>{"control", "v1", "v2"}));
  EXPECT_EQ(state().epochs.back().quotas, (Quotas{5000, 0, 5000}));
  EXPECT_EQ(state().generation, 1u);
  run(make_experiment("hero", {1, 1, 1}));
  EXPECT_EQ(state().arms.size(), 3u) << "back under its own number";
  EXPECT_EQ(state().epochs.back().quotas, (Quotas{3334, 3333, 3333}));
}

TEST_F(Reconcile, AGoalThatComesLaterIsCountedFromANewEpochOn) {
  for (const bool adaptive : {false, true}) {
    runtime_ = {};
    Experiment experiment = adaptive ? make_bandit("hero", {1, 1}) : make_experiment("hero", {1, 1});
    run(experiment);
    if (adaptive) {
      ASSERT_TRUE(start_epoch(state(), {0.7, 0.3}, now_ms_, 5));
    }
    const std::string runs = state().runs;
    experiment.goals.push_back({"lead"});
    EXPECT_TRUE(says(run(experiment), "goals added"));
    EXPECT_EQ(state().epochs.back().goals, 2);
    EXPECT_EQ(state().epochs[state().epochs.size() - 2].goals, 1);
    EXPECT_EQ(state().runs, runs) << "nobody moves";
    EXPECT_EQ(state().generation, 1u);
    EXPECT_EQ(state().revision, 1u);
    experiment.goals.erase(experiment.goals.begin());
    EXPECT_TRUE(run(experiment).empty()) << "a dropped goal keeps its number";
    EXPECT_EQ(state().goals.size(), 2u);
  }
}

TEST_F(Reconcile, PayloadsAndVariantsMakeARevisionWeightsDoNot) {
  Experiment experiment = make_experiment("hero", {1, 1});
  run(experiment);
  experiment.variants[1].payload = R"({"color":"green"})";
  EXPECT_TRUE(says(run(experiment), "revision 2: variants or payloads changed"));
  EXPECT_EQ(state().epochs.size(), 1u) << "and no epoch";
  experiment.traffic = 0.5;
  EXPECT_TRUE(run(experiment).empty());
}

struct GenerationCase {
  const char* name;
  void (*edit)(Experiment&);
};
void PrintTo(const GenerationCase& c, std::ostream* out) {
  *out << c.name;
}

class ReconcileGeneration : public Reconcile, public ::testing::WithParamInterface<GenerationCase> {};

TEST_P(ReconcileGeneration, BeginsANewOne) {
  Experiment experiment = make_experiment("hero", {1, 1});
  experiment.goals.push_back({"revenue", GoalKind::kValue, ValuePer::kFirst, 86400, 2, 500});
  run(experiment);
  run(experiment);
  state().kills.push_back({"v1", "slow", "experimentctl", 1});
  const std::size_t goals = experiment.goals.size();
  GetParam().edit(experiment);
  EXPECT_TRUE(says(run(experiment), "generation 2"));
  EXPECT_EQ(state().generation, 2u);
  EXPECT_EQ(state().revision, 2u) << "pages of the old one are not this one's";
  ASSERT_EQ(state().epochs.size(), 1u);
  EXPECT_EQ(state().epochs[0].ended_ms, 0);
  EXPECT_EQ(state().arms.size(), experiment.variants.size());
  EXPECT_EQ(state().goals.size(), experiment.goals.size()) << goals;
  EXPECT_EQ(state().started_ms, now_ms_);
  EXPECT_EQ(state().kills.size(), 1u) << "only resume lifts a kill";
}

const GenerationCase kGenerationCases[] = {
    {"salt", [](Experiment& e) { e.salt = "again"; }},
    {"unit", [](Experiment& e) { e.unit = "account"; }},
    {"control", [](Experiment& e) { e.control = 1; }},
    {"baseline", [](Experiment& e) { e.policy.baseline = 0.1; }},
    {"goal_kind", [](Experiment& e) { e.goals[1].kind = GoalKind::kConversion; }},
    {"goal_max", [](Experiment& e) { e.goals[1].max = 600; }},
    {"goal_scale", [](Experiment& e) { e.goals[1].scale = 0; }},
    {"goal_per", [](Experiment& e) { e.goals[1].per = ValuePer::kTotal; }},
    {"an_eighth_goal",
     [](Experiment& e) {
       e.goals.clear();
       for (int g = 0; g < 6; ++g) e.goals.push_back({"new-" + std::to_string(g)});
     }},
    {"a_21st_arm",
     [](Experiment& e) {
       for (int v = 0; v < 18; ++v) e.variants.push_back({"new-" + std::to_string(v), 1, {}});
       e.variants[1].key = "other";
     }},
};
INSTANTIATE_TEST_SUITE_P(Edits, ReconcileGeneration, ::testing::ValuesIn(kGenerationCases),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_F(Reconcile, AConversionGoalsMoneyFieldsMeanNothing) {
  Experiment experiment = make_experiment("hero", {1, 1});
  run(experiment);
  experiment.goals[0].max = 9;
  experiment.goals[0].window_s = 3600;
  EXPECT_TRUE(run(experiment).empty());
}

TEST_F(Reconcile, SevenGoalsAndTwentyArmsStillFitTheGeneration) {
  run(make_experiment("hero", {1, 1}));
  Experiment experiment = make_experiment("hero", std::vector<double>(20, 1));
  for (int g = 1; g < 7; ++g) experiment.goals.push_back({"goal-" + std::to_string(g)});
  run(experiment);
  EXPECT_EQ(state().generation, 1u);
  EXPECT_EQ(state().arms.size(), 20u);
  EXPECT_EQ(state().goals.size(), 7u);
}

TEST_F(Reconcile, AnEpochIsSealedAWindowAfterItsEnd) {
  Experiment experiment = make_experiment("hero", {1, 1});
  experiment.goals[0].window_s = 3600;
  experiment.goals.push_back({"late", GoalKind::kConversion, ValuePer::kFirst, 7200});
  run(experiment);
  experiment.variants[0].weight = 2;
  run(experiment);
  const std::int64_t ended = state().epochs[0].ended_ms;
  now_ms_ = ended + 7200 * 1000 - 1 - 1000;
  EXPECT_TRUE(run(experiment).empty());
  now_ms_ = ended + 7200 * 1000 - 1000;
  EXPECT_TRUE(says(run(experiment), "sealed"));
  EXPECT_TRUE(state().epochs[0].sealed);
  EXPECT_FALSE(state().epochs[1].sealed) << "the current one never is";
}

TEST_F(Reconcile, StoppedItSealsAndKeepsItsTable) {
  Experiment experiment = make_experiment("hero", {1, 1});
  run(experiment);
  const std::string runs = state().runs;
  experiment.desired = Desired::kStopped;
  experiment.variants[0].weight = 3;
  EXPECT_TRUE(run(experiment).empty()) << "weights take effect when it runs";
  experiment.desired = Desired::kFrozen;
  EXPECT_TRUE(run(experiment).empty());
  EXPECT_EQ(state().runs, runs);
  experiment.desired = Desired::kRunning;
  EXPECT_TRUE(says(run(experiment), "weights changed"));
  EXPECT_EQ(state().generation, 1u);
}

TEST_F(Reconcile, WithTheRingFullTheEpochInUseGoesOn) {
  Experiment experiment = make_experiment("hero", {1, 1});
  for (int i = 0; i < 200; ++i) {
    experiment.variants[0].weight = 1 + i;
    run(experiment);
  }
  EXPECT_EQ(state().epochs.size(), static_cast<std::size_t>(bandit::kEpochRing));
  EXPECT_TRUE(ring_full(state()));
  EXPECT_EQ(state().epochs.back().quotas, (Quotas{9863, 137})) << "72 to 1";
  now_ms_ = state().epochs[0].ended_ms + std::int64_t{7} * 86400 * 1000 - 1000;
  EXPECT_TRUE(says(run(experiment), "weights changed")) << "one is sealed, so there is room for the newest weights";
  EXPECT_EQ(state().epochs.back().quotas, (Quotas{9950, 50}));
}

TEST_F(Reconcile, AResetIsANewGenerationWithTheSameKills) {
  const Experiment experiment = make_experiment("hero", {1, 3});
  run(experiment);
  state().kills.push_back({"v1", "slow", "experimentctl", 1});
  reset_generation(state());
  EXPECT_TRUE(state().epochs.empty());
  run(experiment);
  EXPECT_EQ(state().generation, 2u);
  EXPECT_EQ(state().revision, 2u) << "pages of the old one are not this one's";
  ASSERT_EQ(state().epochs.size(), 1u);
  EXPECT_EQ(state().epochs[0].quotas, (Quotas{2500, 7500}));
  EXPECT_EQ(state().arms.size(), 2u);
  EXPECT_EQ(state().started_ms, now_ms_);
  EXPECT_EQ(kill_mask(state()), 2u);
  EXPECT_TRUE(run(experiment).empty());
}

TEST_F(Reconcile, KillsOutliveTheDocumentsOpinion) {
  Experiment experiment = make_experiment("hero", {1, 1});
  run(experiment);
  state().kills.push_back({"", "broken", "experimentctl", 1});
  EXPECT_TRUE(run(experiment).empty());
  EXPECT_TRUE(reconcile(document_of({}), runtime_, now_ms_, random_).empty()) << "dropped from the document";
  EXPECT_TRUE(run(experiment).empty()) << "and back";
  EXPECT_EQ(kill_mask(state()), kMaskExperiment);
}

TEST_F(Reconcile, AKillThatCameBeforeTheExperimentHolds) {
  runtime_.experiments["hero"].kills.push_back({"v1", "line 1", "kill file", 1});
  run(make_experiment("hero", {1, 1}));
  EXPECT_EQ(kill_mask(state()), 1u << 1);
  EXPECT_EQ(state().generation, 1u);
}

TEST(KillMask, NamesArmsAndTheWhole) {
  ExperimentRuntime state;
  state.arms = {"control", "v1", "v2"};
  EXPECT_EQ(kill_mask(state), 0u);
  state.kills = {{"v2", "", "", 0}, {"nobody", "", "", 0}, {"control", "", "", 0}};
  EXPECT_EQ(kill_mask(state), 5u);
  state.kills.push_back({"", "", "", 0});
  EXPECT_EQ(kill_mask(state), 5u | kMaskExperiment);
  for (std::size_t i : {0, 3}) state.kills[i].lifted = Lift{};
  EXPECT_EQ(kill_mask(state), 1u) << "what is lifted is a record";
}

TEST(StartEpoch, RefusesWhatMakesNoTable) {
  ExperimentRuntime state;
  state.arms = {"a", "b"};
  EXPECT_FALSE(start_epoch(state, {0, 0}, 1, 1));
  EXPECT_FALSE(start_epoch(state, {}, 1, 1));
  EXPECT_TRUE(state.epochs.empty());
  EXPECT_TRUE(start_epoch(state, {1, 0}, 1, 1));
  state.epochs.back().id = bandit::kEpochIdEnd - 1;
  EXPECT_FALSE(start_epoch(state, {0, 1}, 2, 1)) << "ids are used up";
  EXPECT_EQ(state.runs, "0*10000");
  EXPECT_EQ(state.epochs.back().ended_ms, 0) << "the last one goes on";
}

}  // namespace
}  // namespace experiment::shared
