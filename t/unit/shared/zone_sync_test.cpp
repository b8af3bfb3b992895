#include "shared/zone_sync.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "shared/file_store.h"
#include "shared/kills.h"
#include "shared/plan_text.h"
#include "t/unit/shared/experiment_fixture.h"
#include "t/unit/shared/zone_memory.h"

namespace experiment::shared {
namespace {

namespace fs = std::filesystem;

bool everyone_lives(std::uint32_t) {
  return true;
}

bool never() {
  return false;
}

std::string experiment_text(const std::string& key, const std::string& members = "") {
  return R"({"key":")" + key +
         R"(","desired":"running","variants":[{"key":"control"},{"key":"green"}],)"
         R"("goals":[{"key":"buy","window":"60s"}])" +
         members + "}";
}

// A leader: its conductor over a state directory, and the zone that it keeps in line.
class ZoneSyncTest : public ::testing::Test {
 protected:
  ZoneSyncTest() {
    std::string pattern = (fs::temp_directory_path() / "zone_sync_XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
    fs::create_directory(root_ + "/state");
    make_zone(8 << 20);
    take_over();
  }
  ~ZoneSyncTest() override { fs::remove_all(root_); }

  void make_zone(std::uint64_t bytes) { t_ = std::make_unique<TestZone>(bytes); }
  void take_over() {
    mind_ = std::make_unique<Conductor>(std::make_unique<FileStore>(root_ + "/state", std::string(22, 'z')),
                                        root_ + "/kill", seeded_bits(1));
    sync_ = std::make_unique<ZoneSync>(t_->zone);
    applied_ = ~std::uint64_t{0};
  }
  void publish(const std::vector<std::string>& experiments) {
    std::string text;
    for (const auto& experiment : experiments) text += (text.empty() ? "" : ",") + experiment;
    write("state/definitions.json", R"({"schema":1,"experiments":[)" + text + "]}");
  }
  void write(const std::string& name, const std::string& text) {
    std::ofstream(root_ + "/" + name, std::ios::binary | std::ios::trunc) << text;
  }
  // A step as the module makes it, `ms` after the last one. Returns the lines of apply().
  std::vector<std::string> step(std::int64_t ms = 250, bool flush = false) {
    StepInput input;
    input.now_ms = now_ms_ += ms;
    if (flush) input.totals = t_->zone.read_counters();
    input.flush = flush;
    mind_->step(input);
    std::vector<std::string> lines;
    if (applied_ != mind_->changes()) lines = sync_->apply(*mind_);
    applied_ = mind_->changes();
    if (sync_->tidy(*mind_, now_ms_, everyone_lives, never)) applied_ = ~std::uint64_t{0};
    return lines;
  }
  // No plan knows what was dropped, and its totals are stored.
  void worker_moves_on() {
    step();
    for (int i = 0; i < 3; ++i) step(5000, true);
  }
  ExperimentBlock* block_of(const std::string& key) {
    for (ExperimentBlock* block : t_->zone.blocks()) {
      if (key == block->key) return block;
    }
    return nullptr;
  }
  struct Shown {
    PlanText text;
    Offset block;
  };
  std::vector<Shown> shown() {
    std::vector<Shown> all;
    const auto copy = t_->zone.copy_image();
    if (!copy) return all;
    const auto& image = *reinterpret_cast<const DocumentImage*>(copy->data());
    for (std::uint32_t i = 0; i < image.count; ++i) {
      const ImageEntry& entry = image.entries[i];
      std::string error;
      auto text =
          decode_plan_text({reinterpret_cast<const char*>(copy->data()) + entry.text_begin, entry.text_bytes}, error);
      EXPECT_TRUE(text) << error;
      if (text) all.push_back({std::move(*text), entry.block});
    }
    return all;
  }
  std::uint64_t plan_version() { return t_->zone.header().plan_version.load(); }
  const ExperimentRuntime& state(const std::string& key) { return mind_->runtime().experiments.at(key); }
  std::uint64_t current_id(const std::string& key) {
    const Offset current = block_of(key)->current.load();
    return current == 0 ? 0 : t_->zone.at<EpochBlock>(current)->id;
  }
  static bool says(const std::vector<std::string>& lines, const std::string& part) {
    return std::any_of(lines.begin(), lines.end(), [&](const auto& l) { return l.find(part) != std::string::npos; });
  }

  std::string root_;
  std::unique_ptr<TestZone> t_;
  std::unique_ptr<Conductor> mind_;
  std::unique_ptr<ZoneSync> sync_;
  std::uint64_t applied_ = ~std::uint64_t{0};
  std::int64_t now_ms_ = 1'700'000'000'000;
};

TEST_F(ZoneSyncTest, ADocumentBecomesBlocksEpochsAndAnImage) {
  publish({experiment_text("hero"), R"({"key":"cta","variants":[{"key":"a"}]})"});
  EXPECT_TRUE(step().empty());
  EXPECT_EQ(plan_version(), 1u);
  EXPECT_EQ(t_->zone.header().adopted.load(), 1u);
  ASSERT_EQ(shown().size(), 2u);
  EXPECT_EQ(shown()[0].text.placed.experiment.key, "hero");
  EXPECT_EQ(shown()[0].block, t_->offset_of(*block_of("hero")));
  EXPECT_EQ(shown()[1].text.arms, std::vector<std::string>{"a"});
  EXPECT_NE(shown()[1].block, 0u);
  EXPECT_EQ(current_id("hero"), state("hero").epochs.back().id);
  EXPECT_EQ(current_id("cta"), 0u) << "a draft assigns nobody";
  for (int row = 0; row <= 2; ++row) EXPECT_NE(t_->zone.requests(*block_of("hero"), row, 0), nullptr);
  EXPECT_EQ(t_->zone.header().zone_full.load(), 0u);
}

TEST_F(ZoneSyncTest, WhatIsAlreadySoIsLeftAlone) {
  publish({experiment_text("hero"), experiment_text("cta")});
  step();
  const std::uint64_t used = t_->in_use();
  EXPECT_TRUE(sync_->apply(*mind_).empty());
  EXPECT_EQ(plan_version(), 1u);
  EXPECT_EQ(t_->in_use(), used);
  for (int i = 0; i < 20; ++i) step();
  EXPECT_EQ(plan_version(), 1u);
  EXPECT_EQ(t_->in_use(), used);
  // The next leader shows it once more, and makes nothing twice.
  take_over();
  step();
  EXPECT_EQ(plan_version(), 2u);
  EXPECT_EQ(t_->in_use(), used);
}

TEST_F(ZoneSyncTest, AChangeOfTheDocumentIsShown) {
  publish({experiment_text("hero")});
  step();
  publish({experiment_text("hero", R"(,"traffic":0.5)")});
  step();
  EXPECT_EQ(plan_version(), 2u);
  EXPECT_EQ(shown().at(0).text.placed.experiment.traffic, 0.5);
  publish({experiment_text("hero", R"(,"traffic":7)")});
  step();
  EXPECT_EQ(plan_version(), 2u) << "a bad one is not";
  publish({experiment_text("hero", R"(,"salt":"again")")});
  step();
  EXPECT_EQ(shown().at(0).text.generation, 2u);
  EXPECT_EQ(t_->zone.blocks().size(), 2u) << "the old generation's counts are still to be stored";
}

TEST_F(ZoneSyncTest, WhatThisBuildLacksIsKnownAndOff) {
  publish({experiment_text("hero", R"(,"targeting":{"country":"DE"})"), experiment_text("cta")});
  step();
  ASSERT_EQ(shown().size(), 2u);
  EXPECT_EQ(shown()[0].block, 0u);
  EXPECT_EQ(shown()[0].text.placed.experiment.not_in_build, "targeting");
  EXPECT_EQ(block_of("hero"), nullptr);
  EXPECT_NE(shown()[1].block, 0u);
}

TEST_F(ZoneSyncTest, KillsAreMasks) {
  publish({experiment_text("hero"), experiment_text("cta")});
  step();
  write("kill", "hero/green\ncta\n");
  step();
  EXPECT_EQ(block_of("hero")->mask.load(), 2u);
  EXPECT_EQ(block_of("cta")->mask.load(), kMaskExperiment);
  EXPECT_EQ(plan_version(), 1u) << "a mask needs no plan";
  EXPECT_EQ(t_->zone.header().kill_all.load(), 0u);
  write("kill", "*\n");
  step();
  EXPECT_EQ(t_->zone.header().kill_all.load(), 1u);
  write("kill", "");
  FileStore tool(root_ + "/state");
  Answer answer = tool.exchange({});
  ASSERT_TRUE(answer.runtime);
  Exchange resume;
  resume.known_runtime = answer.runtime->version;
  const Lift lift{"ana", "mended", 1'700'000'000};
  EXPECT_EQ(lift_kills(answer.runtime->kill_all, "", lift).size(), 1u);
  EXPECT_EQ(lift_kills(answer.runtime->experiments["hero"].kills, "green", lift).size(), 1u);
  resume.runtime = std::move(answer.runtime);
  ASSERT_TRUE(tool.exchange(resume).runtime_written);
  step();
  EXPECT_EQ(t_->zone.header().kill_all.load(), 0u);
  EXPECT_EQ(block_of("hero")->mask.load(), 0u);
  EXPECT_EQ(block_of("cta")->mask.load(), kMaskExperiment);
}

TEST_F(ZoneSyncTest, AFullZoneTurnsOffWhatDoesNotFitAndOnAgainWhatDoes) {
  make_zone(Zone::least_bytes(TestZone::options()) + 64 * 1024);
  take_over();
  WorkerSlot* worker = t_->zone.ensure_worker(1);
  auto many = [](char name, int count) {
    std::vector<std::string> texts;
    for (int i = 0; i < count; ++i) texts.push_back(experiment_text(name + std::to_string(i)));
    return texts;
  };
  publish(many('a', 40));
  const auto lines = step();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_TRUE(says(lines, "the zone is full: "));
  EXPECT_TRUE(says(lines, "a larger experiment_zone is needed"));
  const std::uint64_t off = t_->zone.header().zone_full.load();
  ASSERT_GT(off, 0u);
  ASSERT_LT(off, 40u);
  const auto all = shown();
  ASSERT_EQ(all.size(), 40u);
  EXPECT_EQ(std::count_if(all.begin(), all.end(), [](const auto& s) { return s.block == 0; }), static_cast<long>(off));
  EXPECT_NE(all[0].block, 0u) << "first come";
  // Others in their place: there is room when the old ones' totals are stored and no plan knows them.
  publish(many('b', 5));
  step();
  EXPECT_EQ(shown().size(), 5u);
  worker->plan_version = plan_version();
  for (int i = 0; i < 4; ++i) step(5000, true);
  EXPECT_EQ(t_->zone.header().zone_full.load(), 0u);
  for (const auto& entry : shown()) EXPECT_NE(entry.block, 0u);
  EXPECT_EQ(t_->zone.blocks().size(), 5u);
}

TEST_F(ZoneSyncTest, WhatRunsGoesOnWithItsEpochWhereTheNextDoesNotFit) {
  publish({experiment_text("hero")});
  step();
  const std::uint64_t first = current_id("hero");
  // Epochs of a runtime state that is gone fill the ring.
  for (std::uint64_t id = 1; id < bandit::kEpochRing; ++id) {
    ASSERT_TRUE(t_->zone.ensure_epoch(*block_of("hero"), epoch_record(id, {5000, 5000}), conversion_goals(1), nullptr));
  }
  publish({R"({"key":"hero","desired":"running","variants":[{"key":"control","weight":3},{"key":"green"}],)"
           R"("goals":[{"key":"buy","window":"60s"}]})"});
  const auto lines = step();
  EXPECT_TRUE(says(lines, "no room for the newest epoch of 1 experiments, the first is \"hero\""));
  ASSERT_EQ(state("hero").epochs.size(), 2u);
  EXPECT_EQ(current_id("hero"), first);
  EXPECT_NE(shown().at(0).block, 0u) << "it is not put off";
  step(1000, true);
  EXPECT_EQ(current_id("hero"), first) << "requests may still be at the unknown ones";
  for (int i = 0; i < 4; ++i) step(5000, true);
  EXPECT_EQ(current_id("hero"), state("hero").epochs.back().id);
  EXPECT_EQ(t_->zone.find_epoch(*block_of("hero"), 1), nullptr);
  EXPECT_NE(t_->zone.find_epoch(*block_of("hero"), first), nullptr) << "it takes rewards";
}

TEST_F(ZoneSyncTest, ASealedEpochGoesOnlyWhenItsTotalsAreStored) {
  publish({experiment_text("hero")});
  step();
  const std::uint64_t first = current_id("hero");
  t_->zone.find_epoch(*block_of("hero"), first)->counters[2] = 17;
  publish({R"({"key":"hero","desired":"running","variants":[{"key":"control","weight":3},{"key":"green"}],)"
           R"("goals":[{"key":"buy","window":"60s"}]})"});
  step();
  EXPECT_EQ(t_->zone.find_epoch(*block_of("hero"), first)->state.load(), EpochBlock::kOpen);
  step(60'000);
  EXPECT_EQ(t_->zone.find_epoch(*block_of("hero"), first)->state.load(), EpochBlock::kSealed);
  step(7'200'000);
  EXPECT_NE(t_->zone.find_epoch(*block_of("hero"), first), nullptr) << "two hours old, and nothing was stored";
  step(1000, true);
  step();
  EXPECT_EQ(t_->zone.find_epoch(*block_of("hero"), first), nullptr);
  FileStore tool(root_ + "/state");
  const Answer answer = tool.exchange({});
  ASSERT_TRUE(answer.others);
  EXPECT_EQ(answer.others->at({"hero", 1, first}).at(2), 17u);
}

TEST_F(ZoneSyncTest, ADroppedExperimentIsFreedOnlyWhenItsTotalsAreStored) {
  publish({experiment_text("hero"), experiment_text("cta")});
  WorkerSlot* worker = t_->zone.ensure_worker(1);
  step();
  worker->plan_version = plan_version();
  step(5000, true);
  publish({experiment_text("cta")});
  step();
  EXPECT_NE(block_of("hero"), nullptr);
  for (int i = 0; i < 3; ++i) step(5000, true);
  EXPECT_NE(block_of("hero"), nullptr) << "a worker still plans with it";
  worker->plan_version = plan_version();
  for (int i = 0; i < 10; ++i) step();
  EXPECT_NE(block_of("hero"), nullptr) << "counted since, perhaps, and not stored";
  step(1000, true);
  step();
  EXPECT_EQ(block_of("hero"), nullptr);
  EXPECT_NE(block_of("cta"), nullptr);
  publish({experiment_text("hero"), experiment_text("cta")});
  step();
  ASSERT_NE(block_of("hero"), nullptr) << "and comes back under its generation";
  EXPECT_EQ(current_id("hero"), state("hero").epochs.back().id);
}

TEST_F(ZoneSyncTest, WhoComesBackCountsOn) {
  publish({experiment_text("hero"), experiment_text("cta")});
  WorkerSlot* worker = t_->zone.ensure_worker(1);
  step();
  worker->plan_version = plan_version();
  auto count = [&](std::uint64_t n) {
    Zone::Pick pick{};
    ASSERT_TRUE(t_->zone.pick(*block_of("hero"), 0, pick));
    pick.epoch->counters[(1 + pick.arm) * pick.epoch->columns].fetch_add(n);
  };
  count(100);
  step(5000, true);
  publish({experiment_text("cta")});
  step();
  worker->plan_version = plan_version();
  for (int i = 0; i < 5; ++i) step(5000, true);
  ASSERT_EQ(block_of("hero"), nullptr);
  publish({experiment_text("hero"), experiment_text("cta")});
  step();
  worker->plan_version = plan_version();
  count(30);
  step(5000, true);
  std::uint64_t exposures = 0;
  for (const auto& [key, totals] : mind_->own()) {
    if (key.experiment != "hero") continue;
    for (std::size_t row = 0; row < 3; ++row) exposures += totals.at(row * 2);
  }
  EXPECT_EQ(exposures, 130u);
}

TEST_F(ZoneSyncTest, SlotsOfDeadWorkersHoldNothingBack) {
  publish({experiment_text("hero")});
  step();
  t_->zone.ensure_worker(1)->plan_version = 1;
  ASSERT_EQ(t_->zone.oldest_plan(), 1u);
  publish({experiment_text("hero", R"(,"traffic":0.5)")});
  step();
  EXPECT_EQ(t_->zone.oldest_plan(), 1u);
  sync_->tidy(
      *mind_, now_ms_, [](std::uint32_t) { return false; }, never);
  EXPECT_EQ(t_->zone.oldest_plan(), 2u);
}

// Every slice is one experiment long.
bool always() {
  return true;
}

TEST_F(ZoneSyncTest, WorkersKnowNothingBeforeTheLastSlice) {
  publish({experiment_text("a"), experiment_text("b")});
  step();
  publish({experiment_text("a", R"(,"traffic":0.5)"), experiment_text("c"), experiment_text("d")});
  mind_->step({now_ms_ += 250, {}, false});
  sync_->begin(*mind_, ZoneSync::prepare(*mind_));
  int slices = 1;
  for (; !sync_->more(*mind_, always); ++slices) {
    ASSERT_TRUE(sync_->under_way());
    EXPECT_EQ(plan_version(), 1u);
    EXPECT_EQ(shown().size(), 2u);
  }
  EXPECT_GE(slices, 6) << "three that run or not, looked at twice";
  EXPECT_FALSE(sync_->under_way());
  EXPECT_TRUE(sync_->take_lines().empty());
  EXPECT_EQ(plan_version(), 2u);
  ASSERT_EQ(shown().size(), 3u);
  for (const auto& entry : shown()) EXPECT_NE(entry.block, 0u);
}

TEST_F(ZoneSyncTest, KillsWaitForNoSlice) {
  publish({experiment_text("a"), experiment_text("b"), experiment_text("gone")});
  step();
  write("kill", "b/green\ngone\n");
  publish({experiment_text("a", R"(,"traffic":0.5)"), experiment_text("b"), experiment_text("new")});
  mind_->step({now_ms_ += 250, {}, false});
  sync_->begin(*mind_, ZoneSync::prepare(*mind_));
  EXPECT_EQ(block_of("b")->mask.load(), 2u);
  EXPECT_EQ(block_of("gone")->mask.load(), kMaskExperiment);
  EXPECT_EQ(plan_version(), 1u);
  // More of them before the rest is shown.
  write("kill", "b/green\ngone\nnew\n*\n");
  mind_->step({now_ms_ += 250, {}, false});
  sync_->begin(*mind_, ZoneSync::prepare(*mind_));
  EXPECT_EQ(t_->zone.header().kill_all.load(), 1u);
  while (!sync_->more(*mind_, always)) {
    const ExperimentBlock* fresh = block_of("new");
    EXPECT_TRUE(fresh == nullptr || fresh->mask.load() == kMaskExperiment);
  }
  EXPECT_EQ(plan_version(), 2u);
  ASSERT_NE(block_of("new"), nullptr);
}

TEST_F(ZoneSyncTest, WhatAnEndedLeaderBeganIsBegunAnewAndTakesNothing) {
  publish({experiment_text("a"), experiment_text("b")});
  step();
  const std::string text = experiment_text("a", R"(,"traffic":0.5)");
  publish({text, experiment_text("c"), experiment_text("d")});
  step();
  worker_moves_on();
  const std::uint64_t used = t_->in_use();
  for (int slices = 0; slices < 8; ++slices) {
    publish({text, experiment_text("c"), experiment_text("e"), experiment_text("f")});
    mind_->step({now_ms_ += 250, {}, false});
    sync_->begin(*mind_, ZoneSync::prepare(*mind_));
    for (int i = 0; i < slices; ++i) sync_->more(*mind_, always);
    EXPECT_TRUE(sync_->under_way());
    Zone::Pick pick{};
    for (const char* key : {"a", "c", "d"}) EXPECT_TRUE(t_->zone.pick(*block_of(key), 5000, pick)) << key;
    take_over();
    publish({text, experiment_text("c"), experiment_text("d")});
    step();
    worker_moves_on();
    EXPECT_EQ(t_->in_use(), used) << "after " << slices << " slices";
  }
}

TEST_F(ZoneSyncTest, FreesAndDropsInSlicesToo) {
  std::vector<std::string> many;
  for (int i = 0; i < 20; ++i) many.push_back(experiment_text("a" + std::to_string(i)));
  publish({experiment_text("hero")});
  step();
  const std::uint64_t used = t_->in_use();
  publish(many);
  step();
  publish({experiment_text("hero")});
  step();
  StepInput flush{now_ms_ += 1000, t_->zone.read_counters(), true};
  sync_->tidy(*mind_, now_ms_, everyone_lives, never);
  flush.now_ms = now_ms_ += 1000;
  mind_->step(flush);
  for (std::size_t left = 20; left > 0; --left) {
    sync_->tidy(*mind_, now_ms_, everyone_lives, always);
    EXPECT_EQ(t_->zone.blocks().size(), left);
  }
  EXPECT_EQ(t_->in_use(), used);
}

TEST_F(ZoneSyncTest, AThousandReplacedByOthersAgainAndAgainUseTheSpaceOfTwoThousand) {
  make_zone(24 << 20);
  take_over();
  WorkerSlot* worker = t_->zone.ensure_worker(1);
  std::uint64_t used = 0, untouched = 0;
  for (int round = 0; round < 20; ++round) {
    std::vector<std::string> texts;
    for (int i = 0; i < 1000; ++i) texts.push_back(experiment_text((round % 2 == 0 ? "a" : "b") + std::to_string(i)));
    publish(texts);
    EXPECT_TRUE(step().empty());
    worker->plan_version = plan_version();
    for (int i = 0; i < 2; ++i) step(5000, true);
    ASSERT_EQ(t_->zone.blocks().size(), 1000u) << "round " << round;
    if (round == 1) {
      used = t_->in_use();
      untouched = t_->zone.arena().untouched();
    } else if (round > 1) {
      EXPECT_EQ(t_->in_use(), used) << "round " << round;
      EXPECT_EQ(t_->zone.arena().untouched(), untouched) << "round " << round;
    }
  }
}

}  // namespace
}  // namespace experiment::shared
