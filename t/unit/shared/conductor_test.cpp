#include "shared/conductor.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "shared/file_store.h"
#include "shared/kills.h"
#include "shared/zone_layout.h"
#include "t/unit/shared/experiment_fixture.h"

namespace experiment::shared {
namespace {

namespace fs = std::filesystem;

const std::string kOne(22, '1'), kTwo(22, '2');

// A store whose faults and whose rivals are told by the test.
class StagedStore : public Store {
 public:
  StagedStore(const std::string& directory, const std::string& instance) : files_(directory, instance) {}
  Answer exchange(const Exchange& wants) override {
    ++exchanges;
    last = wants;
    Answer answer = told(wants);
    answer.allocates = allocates;
    answer.counters_wanted = counters_wanted;
    for (int i = 0; i < errors; ++i) answer.errors.push_back("fault " + std::to_string(first_error + i) + consequence);
    if (!warning.empty()) answer.warnings.push_back(warning);
    return answer;
  }
  Answer told(const Exchange& wants) {
    if (before_write && wants.runtime) std::exchange(before_write, nullptr)();
    if (loses_answers && wants.runtime) {
      files_.exchange(wants);
      Answer lost;
      lost.errors.push_back("no answer");
      return lost;
    }
    if (!read_only) return files_.exchange(wants);
    Exchange reads = wants;
    reads.runtime.reset();
    reads.counters.reset();
    reads.good_document.reset();
    if (takes_back && wants.runtime) reads.known_runtime = 0;
    Answer answer = files_.exchange(reads);
    if (wants.runtime) answer.errors.push_back("runtime.json: Read-only file system; not written");
    if (wants.counters) answer.errors.push_back("counters: Read-only file system; not written");
    return answer;
  }
  std::optional<StoredDocument> last_good() override { return files_.last_good(); }
  Published publish(const Publication& publication) override { return files_.publish(publication); }
  std::vector<DocumentVersion> history(std::string& error) override { return files_.history(error); }
  void record(const AuditEntry& entry, std::string& error) override { files_.record(entry, error); }
  std::vector<AuditEntry> audit(std::size_t most, std::string& error) override { return files_.audit(most, error); }
  std::vector<EdgeReport> edges(std::string& error) override { return files_.edges(error); }

  bool read_only = false, loses_answers = false, allocates = true, counters_wanted = false;
  bool takes_back = false;  // as a fleet's store: what it did not take is answered by what it has
  std::string consequence, warning;
  int errors = 0, first_error = 0;     // in each answer
  Exchange last;                       // that was asked
  std::function<void()> before_write;  // once
  int exchanges = 0;

 private:
  FileStore files_;
};

std::string experiment_text(const std::string& members) {
  return R"({"key":"hero","desired":"running","variants":[{"key":"control"},{"key":"green"}],"goals":[{"key":"buy"}])" +
         members + "}";
}
std::string document_text(const std::string& experiments) {
  return R"({"schema":1,"experiments":[)" + experiments + "]}";
}
const std::string kFixed = document_text(experiment_text(""));
const std::string kBandit =
    document_text(experiment_text(R"(,"allocation":{"policy":"thompson","goal":"buy","min_epoch":"1s","baseline":0,)"
                                  R"("warm_up":{"exposures":100,"successes":5,"for":"0s"}})"));

class ConductorTest : public ::testing::Test {
 protected:
  ConductorTest() {
    std::string pattern = (fs::temp_directory_path() / "conductor_XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
    fs::create_directory(root_ + "/state");
  }
  ~ConductorTest() override { fs::remove_all(root_); }

  struct Leader {
    StagedStore* store;
    std::unique_ptr<Conductor> mind;
  };
  Leader lead(const std::string& instance = kOne) {
    auto store = std::make_unique<StagedStore>(root_ + "/state", instance);
    StagedStore* staged = store.get();
    return {staged, std::make_unique<Conductor>(std::move(store), kill_path(), seeded_bits(++seed_))};
  }
  std::string kill_path() const { return root_ + "/kill"; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(root_ + "/" + name, std::ios::binary | std::ios::trunc) << text;
  }
  std::string read(const std::string& name) const {
    std::ifstream in(root_ + "/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void publish(const std::string& text) const { write("state/definitions.json", text); }

  // One step a quarter of a second later; its messages are also kept.
  std::vector<std::string> step(Leader& leader, std::optional<Counters> totals = {}, bool flush = false) {
    StepInput input;
    input.now_ms = now_ms_ += 250;
    input.totals = std::move(totals);
    input.flush = flush;
    std::vector<std::string> texts;
    for (auto& message : leader.mind->step(input)) texts.push_back(std::move(message.text));
    return texts;
  }
  static bool says(const std::vector<std::string>& texts, const std::string& part) {
    return std::any_of(texts.begin(), texts.end(), [&](const auto& t) { return t.find(part) != std::string::npos; });
  }
  static const ExperimentRuntime& hero(const Leader& leader) { return leader.mind->runtime().experiments.at("hero"); }
  // As experimentctl writes: whatever is there, edited.
  void edit_runtime(const std::function<void(Runtime&)>& edit) {
    FileStore tool(root_ + "/state");
    Answer answer = tool.exchange({});
    ASSERT_TRUE(answer.runtime);
    Exchange wants;
    wants.known_runtime = answer.runtime->version;
    edit(*answer.runtime);
    wants.runtime = std::move(answer.runtime);
    ASSERT_TRUE(tool.exchange(wants).runtime_written);
  }
  void resume_hero() {
    edit_runtime([](Runtime& runtime) {
      auto& kills = runtime.experiments["hero"].kills;
      for (const char* variant : {"", "control", "green"}) lift_kills(kills, variant, {"ana", "mended", 1'700'000'000});
    });
  }
  Counters totals_of(const Leader& leader, std::vector<std::uint64_t> vector) {
    return {{{"hero", hero(leader).generation, hero(leader).epochs.back().id}, std::move(vector)}};
  }

  std::string root_;
  std::uint64_t seed_ = 0;
  std::int64_t now_ms_ = 1'700'000'000'000;
};

TEST_F(ConductorTest, ADocumentTakesEffectAndIsStored) {
  Leader leader = lead();
  EXPECT_EQ(leader.mind->changes(), 0u);
  step(leader);
  publish(kFixed);
  const auto texts = step(leader);
  EXPECT_TRUE(says(texts, "definitions 1 in use, 1 experiments"));
  EXPECT_TRUE(says(texts, "\"hero\": epoch "));
  EXPECT_EQ(leader.mind->document_version(), 1u);
  EXPECT_EQ(leader.mind->changes(), 1u);
  EXPECT_TRUE(step(leader).empty()) << "nothing new, nothing said";
  EXPECT_EQ(leader.mind->changes(), 1u);
  std::string error;
  const auto stored = decode_runtime(read("state/runtime.json"), error);
  ASSERT_TRUE(stored) << error;
  EXPECT_EQ(encode_runtime(*stored), encode_runtime(leader.mind->runtime()));
}

TEST_F(ConductorTest, WantsAFlushWhenTheStoreWantsCounters) {
  Leader leader = lead();
  step(leader);
  EXPECT_FALSE(leader.mind->wants_flush());
  leader.store->counters_wanted = true;
  step(leader);
  EXPECT_TRUE(leader.mind->wants_flush());
  leader.store->counters_wanted = false;
  step(leader, Counters(), true);
  EXPECT_FALSE(leader.mind->wants_flush());
}

TEST_F(ConductorTest, ACauseIsSaidOnceInTenSeconds) {
  Leader leader = lead();
  leader.store->errors = 1;
  int said = 0;
  for (int i = 0; i < 60; ++i) said += says(step(leader), "fault 0") ? 1 : 0;
  EXPECT_EQ(said, 2) << "in fifteen seconds";
  leader.store->consequence = "; all goes on";
  EXPECT_FALSE(says(step(leader), "fault 0"));
}

TEST_F(ConductorTest, AWarningOfTheStoreIsSaidOnceInTenSeconds) {
  Leader leader = lead();
  leader.store->warning = "killed on this node";
  int said = 0;
  for (int i = 0; i < 60; ++i) said += says(step(leader), "killed on this node") ? 1 : 0;
  EXPECT_EQ(said, 2) << "in fifteen seconds";
}

TEST_F(ConductorTest, ManyCausesAtOnceFillNoLog) {
  Leader leader = lead();
  leader.store->errors = 100;
  std::size_t said = step(leader).size();
  EXPECT_GE(said, 50u);
  for (int i = 0; i < 20; ++i) {
    leader.store->first_error += 100;
    said += step(leader).size();
  }
  EXPECT_LE(said, 64u);
}

TEST_F(ConductorTest, AnIdleStepIsOneExchange) {
  publish(kFixed);
  Leader leader = lead();
  step(leader);
  step(leader);
  const int before = leader.store->exchanges;
  for (int i = 0; i < 10; ++i) step(leader);
  EXPECT_EQ(leader.store->exchanges, before + 10);
}

TEST_F(ConductorTest, ANextLeaderGoesOnWhereTheLastOneStopped) {
  publish(kFixed);
  Leader first = lead();
  step(first);
  Leader second = lead();
  step(second);
  EXPECT_EQ(encode_runtime(second.mind->runtime()), encode_runtime(first.mind->runtime()));
  EXPECT_EQ(second.mind->document_version(), first.mind->document_version());
}

TEST_F(ConductorTest, ABadDocumentLeavesTheGoodOneInUse) {
  publish(kFixed);
  Leader leader = lead();
  step(leader);
  const std::uint64_t changes = leader.mind->changes();
  publish(document_text(experiment_text(R"(,"traffic":7)")));
  EXPECT_TRUE(says(step(leader), "definitions 2 refused at /experiments/0/traffic: 7, expected"));
  EXPECT_EQ(leader.mind->changes(), changes);
  EXPECT_EQ(leader.mind->document_version(), 1u);
  EXPECT_TRUE(step(leader).empty()) << "once";
  publish(document_text(experiment_text(R"(,"traffic":0.7)")));
  EXPECT_TRUE(says(step(leader), "definitions 3 in use"));
  EXPECT_EQ(leader.mind->document().document.experiments[0].traffic, 0.7);
}

TEST_F(ConductorTest, AStartWithABadOrMissingDocumentUsesTheLastGoodOne) {
  publish(kFixed);
  {
    Leader leader = lead();
    step(leader);
  }
  publish("{ half");
  {
    Leader leader = lead();
    const auto texts = step(leader);
    EXPECT_TRUE(says(texts, "definitions 2 refused"));
    EXPECT_TRUE(says(texts, "definitions 1 in use, the last good one"));
    EXPECT_EQ(leader.mind->document().document.experiments.size(), 1u);
    EXPECT_GT(leader.mind->changes(), 0u);
    publish(document_text(""));
    EXPECT_TRUE(says(step(leader), "definitions 3 in use, 0 experiments"));
  }
  publish(kFixed);
  {
    Leader leader = lead();
    step(leader);
  }
  fs::remove(root_ + "/state/definitions.json");
  Leader leader = lead();
  EXPECT_TRUE(says(step(leader), "in use, the last good one"));
  EXPECT_EQ(leader.mind->document().document.experiments.size(), 1u);
}

TEST_F(ConductorTest, TwoLeadersOfOneDirectoryAgree) {
  Leader one = lead(kOne), two = lead(kTwo);
  step(one);
  step(two);
  publish(kFixed);
  // The second one writes after the first has looked and before it writes.
  one.store->before_write = [&] { step(two); };
  step(one);
  EXPECT_EQ(hero(one).epochs.size(), 1u);
  step(two);
  step(one);
  EXPECT_EQ(encode_runtime(one.mind->runtime()), encode_runtime(two.mind->runtime()));
  for (int round = 0; round < 20; ++round) {
    publish(document_text(experiment_text(R"(,"traffic":1,"salt":"s)" + std::to_string(round) + "\"")));
    Leader& first = round % 2 == 0 ? one : two;
    Leader& second = round % 2 == 0 ? two : one;
    first.store->before_write = [&] { step(second); };
    step(first);
    step(second);
    step(first);
    ASSERT_EQ(encode_runtime(one.mind->runtime()), encode_runtime(two.mind->runtime())) << round;
    ASSERT_EQ(hero(one).generation, static_cast<std::uint32_t>(2 + round));
    ASSERT_EQ(hero(one).epochs.size(), 1u);
  }
}

TEST_F(ConductorTest, AKillOfTheKillFileIsRecordedAndOutlivesTheLine) {
  publish(kFixed);
  Leader leader = lead();
  step(leader);
  std::uint64_t changes = leader.mind->changes();
  write("kill", "hero/green\n");
  EXPECT_TRUE(says(step(leader), "\"hero/green\" killed by " + kill_path() + " line 1"));
  EXPECT_EQ(kill_mask(hero(leader)), 2u);
  EXPECT_GT(leader.mind->changes(), changes);
  write("kill", "");
  EXPECT_TRUE(step(leader).empty());
  EXPECT_EQ(kill_mask(hero(leader)), 2u);
  Leader restarted = lead();
  step(restarted);
  EXPECT_EQ(kill_mask(hero(restarted)), 2u);
  publish(document_text(experiment_text(R"(,"traffic":0.7)")));
  step(restarted);
  EXPECT_EQ(kill_mask(hero(restarted)), 2u);
  resume_hero();
  EXPECT_TRUE(says(step(restarted), "\"hero/green\" is resumed by ana: mended"));
  EXPECT_EQ(kill_mask(hero(restarted)), 0u);
}

TEST_F(ConductorTest, ALineThatStandsKillsAgain) {
  publish(kFixed);
  write("kill", "hero\n");
  Leader leader = lead();
  step(leader);
  EXPECT_EQ(kill_mask(hero(leader)), kMaskExperiment);
  resume_hero();
  step(leader);
  EXPECT_EQ(kill_mask(hero(leader)), kMaskExperiment);
  Leader other = lead();
  step(other);
  EXPECT_EQ(kill_mask(hero(other)), kMaskExperiment) << "and stored it";
}

TEST_F(ConductorTest, AKillThatIsMadeAgainIsAnotherOne) {
  publish(kFixed);
  write("kill", "hero/green\n");
  Leader leader = lead();
  step(leader);
  write("kill", "");
  step(leader);
  resume_hero();
  step(leader);
  EXPECT_EQ(kill_mask(hero(leader)), 0u);
  write("kill", "hero/green\n");
  step(leader);
  EXPECT_EQ(kill_mask(hero(leader)), 2u);
  const auto& kills = hero(leader).kills;
  ASSERT_EQ(kills.size(), 2u);
  EXPECT_NE(kills[0].id, 0u);
  EXPECT_NE(kills[1].id, 0u);
  EXPECT_NE(kills[0].id, kills[1].id);
  EXPECT_FALSE(kills[0].stands());
  EXPECT_TRUE(kills[1].stands());
}

// The answer that said "written" was lost, and somebody resumed meanwhile: what is lifted stays so.
TEST_F(ConductorTest, AKillThatWasStoredAndLiftedDoesNotComeBackFromMemory) {
  publish(kFixed);
  Leader leader = lead();
  step(leader);
  leader.store->loses_answers = true;
  write("kill", "hero/green\n");
  step(leader);
  leader.store->loses_answers = false;
  write("kill", "");
  resume_hero();
  step(leader);
  EXPECT_EQ(kill_mask(hero(leader)), 0u);
  EXPECT_EQ(hero(leader).kills.size(), 1u);
}

TEST_F(ConductorTest, KillsOfAFormerLeaderHoldAlthoughTheStoreMovedOn) {
  publish(kFixed);
  std::string left;
  {
    Leader leader = lead();
    step(leader);
    leader.store->read_only = true;
    write("kill", "hero/green\n");
    step(leader);
    ASSERT_TRUE(leader.mind->unsaved());
    left = encode_runtime(leader.mind->runtime());
  }
  write("kill", "");
  edit_runtime([](Runtime& runtime) {
    runtime.experiments["hero"].kills.push_back({"control", "x", "experimentctl", 1, 77});
  });
  Leader next = lead();
  next.mind->restore(left);
  step(next);
  EXPECT_EQ(kill_mask(hero(next)), 3u);
  EXPECT_FALSE(next.mind->unsaved());
  edit_runtime([](Runtime& runtime) { EXPECT_EQ(kill_mask(runtime.experiments["hero"]), 3u); });
}

TEST_F(ConductorTest, EverythingIsKilledByAStar) {
  publish(kFixed);
  write("kill", "*\n");
  Leader leader = lead();
  EXPECT_TRUE(says(step(leader), "everything killed by"));
  EXPECT_EQ(leader.mind->runtime().kill_all.size(), 1u);
  step(leader);
  EXPECT_EQ(leader.mind->runtime().kill_all.size(), 1u);
}

TEST_F(ConductorTest, AKillFileThatCannotBeReadIsTold) {
  publish(kFixed);
  write("kill", "hero/green\n");
  Leader leader = lead();
  step(leader);
  fs::remove(kill_path());
  EXPECT_TRUE(step(leader).empty()) << "a missing one is an empty one";
  fs::create_directory(kill_path());
  int said = 0;
  for (int i = 0; i < 80; ++i) {
    for (const auto& text : step(leader))
      said += text == kill_path() + ": not a regular file; what it kills from now on is not known";
  }
  EXPECT_EQ(said, 2) << "twenty seconds, every ten";
  EXPECT_EQ(kill_mask(hero(leader)), 2u);
  fs::remove(kill_path());
  write("kill", "hero\n");
  step(leader);
  EXPECT_EQ(kill_mask(hero(leader)), 2u | kMaskExperiment);
}

// Theirs arrives in the very exchange that was to write ours, and in that step nothing else changed.
TEST_F(ConductorTest, WhatWonAConflictIsShown) {
  publish(kFixed);
  Leader leader = lead();
  step(leader);
  leader.store->read_only = true;
  write("kill", "hero/green\n");
  step(leader);  // cannot be stored: to be written later
  leader.store->read_only = false;
  const std::uint64_t changes = leader.mind->changes();
  leader.store->before_write = [&] {
    edit_runtime([](Runtime& runtime) { runtime.kill_all.push_back({"", "fire", "experimentctl", 1}); });
  };
  EXPECT_TRUE(says(step(leader), "\"*\" is killed by experimentctl: fire"));
  EXPECT_EQ(leader.mind->runtime().kill_all.size(), 1u);
  EXPECT_GT(leader.mind->changes(), changes) << "else no worker hears of it";
}

TEST_F(ConductorTest, AKillThatCouldNotBeStoredIsNotLostToWhatOthersWrite) {
  publish(kFixed);
  Leader leader = lead();
  step(leader);
  leader.store->read_only = true;
  write("kill", "hero/green\n");
  step(leader);
  EXPECT_EQ(kill_mask(hero(leader)), 2u) << "it holds here at once";
  write("kill", "");
  edit_runtime([](Runtime& runtime) {
    runtime.experiments["hero"].kills.push_back({"control", "x", "experimentctl", 1});
  });
  step(leader);
  EXPECT_EQ(kill_mask(hero(leader)), 3u);
  leader.store->read_only = false;
  step(leader);
  edit_runtime(
      [](Runtime& runtime) { EXPECT_EQ(kill_mask(runtime.experiments["hero"]), 3u) << "stored as soon as it can be"; });
  // Once it is stored, a resume lifts it.
  resume_hero();
  step(leader);
  EXPECT_EQ(kill_mask(hero(leader)), 0u);
}

TEST_F(ConductorTest, AReadOnlyDirectoryIsToldEveryTenSecondsAndHoldsTheAllocator) {
  publish(kBandit);
  Leader leader = lead();
  step(leader);
  leader.store->read_only = true;
  std::map<std::string, int> said;
  const int before = leader.store->exchanges;
  std::size_t epochs = 0;
  for (int i = 0; i < 120; ++i) {  // thirty seconds
    for (const auto& text : step(leader, totals_of(leader, {0, 0, 5000, 100, 5000, 400}), i % 20 == 0)) ++said[text];
    if (i == 20) epochs = hero(leader).epochs.size();
  }
  for (const auto& [text, times] : said) EXPECT_LE(times, 3) << text;
  EXPECT_EQ(said["runtime.json: Read-only file system; not written"], 3);
  EXPECT_EQ(hero(leader).epochs.size(), epochs) << "no tables that nobody would know after a restart";
  EXPECT_LE(epochs, 2u);
  EXPECT_LE(leader.store->exchanges - before, 240);
  leader.store->read_only = false;
  step(leader);
  step(leader, totals_of(leader, {0, 0, 5000, 100, 5000, 400}));
  now_ms_ += 60'000;
  step(leader, totals_of(leader, {0, 0, 50000, 1000, 50000, 4000}));
  EXPECT_GT(hero(leader).epochs.size(), epochs) << "and goes on when it can";
}

TEST_F(ConductorTest, AnEpochThatWasTakenBackIsMadeAgainWhenTheStoreCanTakeIt) {
  publish(kBandit);
  Leader leader = lead();
  step(leader);
  now_ms_ += 60'000;
  leader.store->read_only = leader.store->takes_back = true;
  EXPECT_TRUE(says(step(leader, totals_of(leader, {0, 0, 5000, 100, 5000, 400})), "not written"));
  EXPECT_EQ(hero(leader).epochs.size(), 1u);
  leader.store->read_only = false;
  step(leader, totals_of(leader, {0, 0, 5000, 100, 5000, 400}));
  EXPECT_EQ(hero(leader).epochs.size(), 2u);
}

TEST_F(ConductorTest, ADamagedRuntimeIsNotMadeUp) {
  publish(kFixed);
  {
    Leader leader = lead();
    write("kill", "hero/green\n");
    step(leader);
    write("kill", "");
    step(leader);
  }
  const std::string good = read("state/runtime.json");
  write("state/runtime.json", good.substr(0, good.size() / 2));
  Leader leader = lead();
  EXPECT_TRUE(says(step(leader), "runtime.json"));
  EXPECT_TRUE(leader.mind->runtime().experiments.empty()) << "kills may be in it, so nothing runs";
  EXPECT_EQ(read("state/runtime.json"), good.substr(0, good.size() / 2));
  write("kill", "hero\n");
  const std::uint64_t changes = leader.mind->changes();
  EXPECT_TRUE(says(step(leader), "\"hero\" killed by"));
  EXPECT_GT(leader.mind->changes(), changes);
  write("kill", "");
  write("state/runtime.json", good);
  step(leader);
  EXPECT_EQ(kill_mask(hero(leader)), 2u | kMaskExperiment) << "both";
  EXPECT_EQ(hero(leader).epochs.size(), 1u);
}

TEST_F(ConductorTest, TheRuntimeSaysWhichDocumentItIsInLineWith) {
  Leader leader = lead();
  step(leader);
  EXPECT_EQ(leader.mind->runtime().document, 0u);
  publish(kFixed);
  step(leader);
  EXPECT_EQ(leader.mind->runtime().document, 1u);
  publish("{ half");
  step(leader);
  EXPECT_EQ(leader.mind->runtime().document, 1u) << "nobody follows what was refused";
  publish(document_text(experiment_text(R"(,"traffic":0.7)")));
  step(leader);
  std::string error;
  EXPECT_EQ(decode_runtime(read("state/runtime.json"), error)->document, 3u) << "stored, though nothing else changed";
  edit_runtime([](Runtime& runtime) { runtime.document = 9; });
  step(leader);
  EXPECT_EQ(leader.mind->runtime().document, 9u) << "another node was told of a later one";
}

TEST_F(ConductorTest, OnlyTheNodeThatAllocatesFollowsTheDocument) {
  publish(kBandit);
  Leader one = lead(kOne), two = lead(kTwo);
  two.store->allocates = false;
  step(two);
  EXPECT_EQ(two.mind->document_version(), 1u);
  EXPECT_TRUE(two.mind->runtime().experiments.empty());
  write("kill", "hero/green\n");
  step(two);
  EXPECT_EQ(kill_mask(hero(two)), 0u) << "no arm has a number yet";
  EXPECT_FALSE(two.mind->unsaved()) << "but its kill file works";
  step(one);
  step(two);
  EXPECT_EQ(encode_runtime(two.mind->runtime()), encode_runtime(one.mind->runtime()));
  EXPECT_EQ(hero(two).epochs.size(), 1u);
  EXPECT_EQ(kill_mask(hero(two)), 2u);
  // It adopts documents, and learns nothing.
  publish(document_text(experiment_text(R"(,"salt":"again")")));
  step(two, Counters{});
  EXPECT_EQ(two.mind->document_version(), 2u);
  EXPECT_EQ(hero(two).generation, 1u);
  EXPECT_EQ(two.mind->runtime().document, 1u);
  step(one);
  step(two);
  EXPECT_EQ(hero(two).generation, 2u);
  EXPECT_EQ(two.mind->runtime().document, 2u);
}

TEST_F(ConductorTest, AConflictMakesNoAllocatorOfANodeThatIsNone) {
  publish(kFixed);
  Leader one = lead(kOne), two = lead(kTwo);
  two.store->allocates = false;
  write("kill", "hero\n");
  two.store->before_write = [&] { step(one); };
  step(two);
  step(two);
  EXPECT_EQ(encode_runtime(two.mind->runtime()), encode_runtime(one.mind->runtime()));
  EXPECT_EQ(hero(two).epochs.size(), 1u);
}

TEST_F(ConductorTest, TotalsAreAskedForOfWhatIsLearnedFrom) {
  const std::string thompson = R"(,"allocation":{"policy":"thompson","goal":"buy"}})";
  const auto one = [&](const std::string& key, const std::string& desired, const std::string& rest) {
    return R"({"key":")" + key + R"(","desired":")" + desired +
           R"(","variants":[{"key":"control"},{"key":"green"}],"goals":[{"key":"buy"}])" + rest;
  };
  publish(document_text(one("zeta", "running", thompson) + "," + one("fixed", "running", "}") + "," +
                        one("beta", "running", thompson) + "," + one("old", "stopped", thompson)));
  Leader leader = lead();
  step(leader);
  EXPECT_EQ(leader.store->last.learning, std::vector<std::string>({"beta", "zeta"})) << "with what it publishes";
  step(leader);
  EXPECT_EQ(leader.store->last.learning, std::vector<std::string>({"beta", "zeta"}));
  leader.store->allocates = false;
  step(leader);
  step(leader);
  EXPECT_EQ(leader.store->last.learning, std::vector<std::string>()) << "none, which is not all";
}

// Who has just begun to allocate has nobody's totals but its own, which may say the opposite of the fleet's.
TEST_F(ConductorTest, AnAllocatorLooksWhenItHasAskedForTotals) {
  publish(kBandit);
  Leader leader = lead();
  leader.store->allocates = false;
  Leader other = lead(kTwo);
  step(other);
  step(leader);
  step(leader, totals_of(leader, {0, 0, 5000, 100, 5000, 400}));
  EXPECT_TRUE(leader.mind->p_best().empty());
  leader.store->allocates = true;
  step(leader, totals_of(leader, {0, 0, 5000, 100, 5000, 400}));
  EXPECT_TRUE(leader.mind->p_best().empty());
  step(leader, totals_of(leader, {0, 0, 5000, 100, 5000, 400}));
  EXPECT_EQ(leader.mind->p_best().count("hero"), 1u);
  leader.store->allocates = false;
  step(leader, totals_of(leader, {0, 0, 5000, 100, 5000, 400}));
  EXPECT_TRUE(leader.mind->p_best().empty()) << "it gets old";
}

TEST_F(ConductorTest, AReportIsHandedOn) {
  publish(kFixed);
  Leader leader = lead();
  StepInput input;
  input.now_ms = now_ms_;
  input.report = R"({"document":0})";
  leader.mind->step(input);
  std::string error;
  auto reports = FileStore(root_ + "/state").edges(error);
  ASSERT_EQ(reports.size(), 1u) << error;
  EXPECT_EQ(reports[0].instance, kOne);
  EXPECT_EQ(reports[0].text, R"({"document":0})");
  step(leader);
  EXPECT_FALSE(leader.store->last.report);
}

TEST_F(ConductorTest, TotalsOfOtherInstancesAreLearnedFrom) {
  publish(kBandit);
  Leader one = lead(kOne), two = lead(kTwo);
  step(one);
  step(two);
  const Counters counted = totals_of(one, {0, 0, 5000, 100, 5000, 400});
  EXPECT_EQ(two.mind->flushed_ms(), 0);
  step(two, counted, true);
  EXPECT_EQ(two.mind->flushed_ms(), now_ms_);
  EXPECT_TRUE(one.mind->p_best().empty());
  step(one, Counters{});
  ASSERT_EQ(one.mind->p_best().count("hero"), 1u);
  EXPECT_GT(one.mind->p_best().at("hero")[1], 0.999);
}

TEST_F(ConductorTest, AClockThatIsSetBackVouchesForNothing) {
  publish(kFixed);
  Leader leader = lead();
  step(leader);
  step(leader, totals_of(leader, {0, 0, 10, 1, 10, 4}), true);
  write("kill", "Hero\n");
  EXPECT_TRUE(says(step(leader), "/kill line 1"));
  now_ms_ -= 86'400'000;
  step(leader);
  EXPECT_EQ(leader.mind->flushed_ms(), 0) << "what is counted from now on is not stored yet";
  write("kill", "Hero\n# again\n");
  EXPECT_TRUE(says(step(leader), "/kill line 1")) << "said a day from now, which is not ten seconds ago";
  step(leader, totals_of(leader, {0, 0, 10, 1, 10, 4}), true);
  EXPECT_EQ(leader.mind->flushed_ms(), now_ms_);
}

TEST_F(ConductorTest, WhatTheZoneHasDroppedIsStillLearnedFrom) {
  publish(kBandit);
  Leader leader = lead();
  step(leader);
  step(leader, totals_of(leader, {0, 0, 5000, 100, 5000, 400}), true);
  now_ms_ += 1000;
  step(leader, totals_of(leader, {0, 0, 1, 0, 1, 0}));  // the first epoch's block is gone
  ASSERT_EQ(leader.mind->p_best().count("hero"), 1u);
  EXPECT_GT(leader.mind->p_best().at("hero")[1], 0.999);
  // The next leader of the same zone reads it from the store with its first flush.
  Leader next = lead();
  step(next);
  step(next, Counters{}, true);
  ASSERT_EQ(next.mind->p_best().count("hero"), 1u);
  EXPECT_GT(next.mind->p_best().at("hero")[1], 0.999);
}

TEST_F(ConductorTest, AFlushAtTheEndWritesTotalsAndNothingElse) {
  publish(kBandit);
  Leader leader = lead();
  step(leader);
  const std::string runtime = read("state/runtime.json");
  EXPECT_TRUE(leader.mind->flush(totals_of(leader, {0, 0, 7, 0, 9, 1}), now_ms_).empty());
  EXPECT_EQ(read("state/runtime.json"), runtime);
  FileStore tool(root_ + "/state");
  const Answer answer = tool.exchange({});
  ASSERT_TRUE(answer.others);
  EXPECT_EQ(answer.others->begin()->second, (CounterVector{0, 0, 7, 0, 9, 1}));
}

}  // namespace
}  // namespace experiment::shared
