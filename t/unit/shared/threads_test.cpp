// An edge in threads: workers that take plans, decide, count and remember, beside a leader that publishes, begins,
// seals, drops and frees. `make tsan` runs it under ThreadSanitizer.
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "bandit/assignment.h"
#include "shared/conductor.h"
#include "shared/file_store.h"
#include "shared/plan_text.h"
#include "shared/zone_sync.h"
#include "t/unit/shared/experiment_fixture.h"
#include "t/unit/shared/zone_memory.h"

namespace experiment::shared {
namespace {

namespace fs = std::filesystem;

constexpr int kWorkers = 3;

bool everyone_lives(std::uint32_t) {
  return true;
}

// What one worker knows and did. Requests hold nothing of the zone from one to the next but the plan.
class TestWorker {
 public:
  TestWorker(const Zone& zone, int number)
      : zone_(zone), stripe_(static_cast<std::uint32_t>(number) % zone.header().stripes), random_(number) {
    slot_ = zone_.ensure_worker(1000 + static_cast<std::uint32_t>(number));
  }

  void request() {
    take_plan();
    for (const Placed& placed : plan_) {
      const std::uint64_t unit = random_();
      zone_.counters(*placed.block, stripe_).decisions[0].fetch_add(1, std::memory_order_relaxed);
      Zone::Pick pick{};
      if (!zone_.pick(*placed.block, bandit::slot(unit), pick)) continue;
      if (placed.block->mask.load(std::memory_order_acquire) >> pick.arm & 1) continue;
      zone_.filter().test_and_set(unit);
      const auto row = static_cast<std::size_t>(1 + pick.arm) * pick.epoch->columns;
      pick.epoch->counters[row].fetch_add(1, std::memory_order_relaxed);
      if (auto* cells = zone_.requests(*placed.block, 1 + pick.arm, stripe_)) cells->exposures.fetch_add(1);
      ++counted_[placed.key];
      if (auto* epoch = zone_.find_epoch(*placed.block, last_epoch_[placed.key]);
          epoch != nullptr && epoch->state.load(std::memory_order_acquire) == EpochBlock::kOpen) {
        epoch->counters[row + 1].fetch_add(1, std::memory_order_relaxed);
      }
      last_epoch_[placed.key] = pick.epoch->id;
    }
    zone_.node(stripe_).units_minted.fetch_add(1, std::memory_order_relaxed);
    requests_.fetch_add(1, std::memory_order_release);
  }

  std::uint64_t requests() const { return requests_.load(std::memory_order_acquire); }
  std::uint64_t plans() const { return plans_; }
  const std::map<std::string, std::uint64_t>& counted() const { return counted_; }

 private:
  struct Placed {
    std::string key;
    ExperimentBlock* block;
  };

  void take_plan() {
    const std::uint64_t newest = zone_.header().plan_version.load(std::memory_order_acquire);
    if (newest == version_) return;
    const auto copy = zone_.copy_image();
    if (!copy) return;
    const auto& image = *reinterpret_cast<const DocumentImage*>(copy->data());
    plan_.clear();
    for (std::uint32_t i = 0; i < image.count; ++i) {
      const ImageEntry& entry = image.entries[i];
      if (entry.block == 0) continue;
      auto* block = zone_.at<ExperimentBlock>(entry.block);
      plan_.push_back({block->key, block});
    }
    version_ = image.version;
    slot_->plan_version.store(version_, std::memory_order_release);
    ++plans_;
  }

  Zone zone_;
  std::uint32_t stripe_;
  std::mt19937_64 random_;
  WorkerSlot* slot_;
  std::vector<Placed> plan_;
  std::uint64_t version_ = 0, plans_ = 0;
  std::map<std::string, std::uint64_t> last_epoch_, counted_;
  std::atomic<std::uint64_t> requests_{0};
};

class TestLeader {
 public:
  explicit TestLeader(const Zone& zone) : zone_(zone), sync_(zone) {
    std::string pattern = (fs::temp_directory_path() / "threads_XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
    fs::create_directory(root_ + "/state");
    mind_ = std::make_unique<Conductor>(std::make_unique<FileStore>(root_ + "/state", std::string(22, 't')),
                                        root_ + "/kill", seeded_bits(3));
  }
  ~TestLeader() { fs::remove_all(root_); }

  // "hero" is always there and changes its weights, "banner" is killed at times, another "cta" comes and goes.
  void publish(int round) {
    std::string text = experiment_text("hero", 1 + round % 7) + "," + experiment_text("banner", 1);
    if (round % 3 != 0) text += "," + experiment_text("cta-" + std::to_string(round / 3), 2);
    write("state/definitions.json", R"({"schema":1,"experiments":[)" + text + "]}");
    if (round % 5 == 4) write("kill", "banner/green\n");
  }
  void step(std::int64_t ms) {
    StepInput input;
    input.now_ms = now_ms_ += ms;
    input.totals = zone_.read_counters();
    input.flush = true;
    mind_->step(input);
    if (applied_ != mind_->changes()) sync_.apply(*mind_);
    applied_ = mind_->changes();
    if (sync_.tidy(*mind_, now_ms_, everyone_lives, [] { return false; })) applied_ = ~std::uint64_t{0};
  }
  // Exposures by experiment, as the store has them, dropped epochs and generations included.
  std::map<std::string, std::uint64_t> stored() {
    FileStore store(root_ + "/state", std::string(22, 't'));
    Exchange wants;
    wants.counters = zone_.read_counters();
    const Answer answer = store.exchange(wants);
    EXPECT_TRUE(answer.errors.empty()) << answer.errors.front();
    std::map<std::string, std::uint64_t> sums;
    for (const auto& [key, vector] : *answer.own) {
      for (std::size_t at = 0; at < vector.size(); at += 2) sums[key.experiment] += vector[at];
    }
    return sums;
  }

 private:
  static std::string experiment_text(const std::string& key, int weight) {
    return R"({"key":")" + key + R"(","desired":"running","variants":[{"key":"control"},{"key":"green","weight":)" +
           std::to_string(weight) + R"(}],"goals":[{"key":"buy","window":"1s"}]})";
  }
  void write(const std::string& name, const std::string& text) {
    std::ofstream(root_ + "/next", std::ios::binary | std::ios::trunc) << text;
    fs::rename(root_ + "/next", root_ + "/" + name);
  }

  Zone zone_;
  ZoneSync sync_;
  std::string root_;
  std::unique_ptr<Conductor> mind_;
  std::uint64_t applied_ = ~std::uint64_t{0};
  std::int64_t now_ms_ = 1'700'000'000'000;
};

TEST(EdgeThreads, NothingThatWasCountedIsLost) {
  TestZone t(8 << 20);
  TestLeader leader(t.zone);
  leader.publish(0);
  leader.step(250);
  std::vector<std::unique_ptr<TestWorker>> workers;
  for (int w = 0; w < kWorkers; ++w) workers.push_back(std::make_unique<TestWorker>(t.zone, w));
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (auto& worker : workers) {
    threads.emplace_back([&done, &worker = *worker] {
      while (!done.load(std::memory_order_relaxed)) worker.request();
    });
  }
  // The clock of this leader runs ahead of the workers, who get time for a request and a plan between two steps.
  auto pass = [&] {
    std::array<std::uint64_t, kWorkers> seen{};
    for (int w = 0; w < kWorkers; ++w) seen[w] = workers[w]->requests();
    for (int w = 0; w < kWorkers; ++w) {
      while (workers[w]->requests() < seen[w] + 3) std::this_thread::yield();
    }
  };
  constexpr int kRounds = 20;
  for (int round = 1; round <= kRounds; ++round) {
    leader.publish(round);
    for (std::int64_t ms : {250, 4000, 20000, 60000}) {
      leader.step(ms);
      pass();
    }
  }
  done = true;
  for (auto& thread : threads) thread.join();

  std::map<std::string, std::uint64_t> counted;
  for (const auto& worker : workers) {
    EXPECT_GE(worker->plans(), static_cast<std::uint64_t>(kRounds) / 2);
    for (const auto& [key, n] : worker->counted()) counted[key] += n;
  }
  EXPECT_EQ(counted.size(), 2u + (kRounds + 1) / 3);
  EXPECT_EQ(leader.stored(), counted);
  EXPECT_LT(t.in_use(), std::uint64_t{2} << 20) << "what is gone was freed";
  std::uint64_t minted = 0;
  for (std::uint32_t stripe = 0; stripe < 2; ++stripe) minted += t.zone.node(stripe).units_minted.load();
  std::uint64_t requests = 0;
  for (const auto& worker : workers) requests += worker->requests();
  EXPECT_EQ(minted, requests);
}

TEST(FilterThreads, AKeyIsFreshForExactlyOne) {
  constexpr std::uint64_t kKeys = 20000;
  ZoneMemory memory(8 << 20);
  RotatingFilter(memory.get(), memory.bytes()).format();
  std::array<std::uint64_t, kWorkers> fresh{};
  std::vector<std::thread> threads;
  for (int w = 0; w < kWorkers; ++w) {
    threads.emplace_back([&, w] {
      RotatingFilter mine(memory.get(), memory.bytes());
      std::mt19937_64 random(9);
      for (std::uint64_t i = 0; i < kKeys; ++i) fresh[w] += !mine.test_and_set(random());
    });
  }
  for (auto& thread : threads) thread.join();
  const RotatingFilter filter(memory.get(), memory.bytes());
  EXPECT_EQ(fresh[0] + fresh[1] + fresh[2], filter.inserted());
  EXPECT_LE(filter.inserted(), kKeys);
  EXPECT_GE(static_cast<double>(filter.inserted()), kKeys * (1 - filter.false_positive_rate()));
}

// A key lives through one rotation, whenever that happens: until the next one is due, which clears its half.
TEST(FilterThreads, AFreshKeyOutlivesTheRotationBesideIt) {
  constexpr std::uint64_t kRotations = 400;
  ZoneMemory memory(256 << 10);
  RotatingFilter leader(memory.get(), memory.bytes());
  leader.format();
  std::atomic<bool> done{false};
  std::array<std::uint64_t, kWorkers> checked{}, lost{};
  std::array<std::atomic<std::uint64_t>, kWorkers> rounds{};
  std::vector<std::thread> threads;
  for (int w = 0; w < kWorkers; ++w) {
    threads.emplace_back([&, w] {
      RotatingFilter mine(memory.get(), memory.bytes());
      std::mt19937_64 random(static_cast<unsigned>(w));
      while (!done.load(std::memory_order_relaxed)) {
        const std::uint64_t key = random(), before = mine.rotations();
        // What looks marked by others' marks is not marked again, and goes with them.
        const bool fresh = !mine.test_and_set(key);
        const bool here = mine.test(key);
        const bool once = fresh && mine.rotations() <= before + 1;
        if (once) ++checked[w];
        if (once && !here) ++lost[w];
        ++rounds[w];
      }
    });
  }
  std::int64_t now = 1'700'000'000'000;
  while (leader.rotations() < kRotations) {
    now += RotatingFilter::kPeriodMs / 8;
    if (!leader.rotate_if_due(now)) continue;
    // Nobody takes a whole period for one key.
    for (auto& worker : rounds) {
      for (const std::uint64_t begun = worker.load(); worker.load() < begun + 2;) std::this_thread::yield();
    }
  }
  done = true;
  for (auto& thread : threads) thread.join();
  for (int w = 0; w < kWorkers; ++w) {
    EXPECT_GT(checked[w], 0u);
    EXPECT_EQ(lost[w], 0u);
  }
}

}  // namespace
}  // namespace experiment::shared
