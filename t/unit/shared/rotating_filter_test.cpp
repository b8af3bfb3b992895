#include "shared/rotating_filter.h"

#include <atomic>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <new>
#include <random>
#include <vector>

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace experiment::shared {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::int64_t kStart = 1767225600000;  // 2026-01-01
constexpr std::int64_t kHour = 3600 * 1000;

// Memory as the zone gives it: shared between processes, aligned, not zeroed.
class SharedMemory {
 public:
  explicit SharedMemory(std::size_t bytes)
      : bytes_(bytes), at_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    std::memset(at_, 0xa5, bytes_);
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory() { munmap(at_, bytes_); }
  void* at() const { return at_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_;
  void* at_;
};

struct Fixture {
  explicit Fixture(std::size_t mark_bytes)
      : memory(RotatingFilter::bytes_for(mark_bytes)), filter(memory.at(), memory.bytes()) {
    filter.format();
  }
  SharedMemory memory;
  RotatingFilter filter;
};

// Calls until the filter has rotated; a large one takes several.
void rotate(RotatingFilter& filter, std::int64_t now_ms) {
  const std::uint64_t before = filter.rotations();
  for (int call = 0; call < 100 && filter.rotations() == before; ++call) filter.rotate_if_due(now_ms);
  ASSERT_EQ(filter.rotations(), before + 1);
}

TEST(RotatingFilter, RemembersWhatWasSet) {
  Fixture f(kMiB);
  std::mt19937_64 rng(1);
  std::vector<std::uint64_t> keys(100000);
  for (auto& key : keys) key = rng();
  std::uint64_t fresh = 0;
  for (std::uint64_t key : keys) fresh += !f.filter.test_and_set(key);
  EXPECT_EQ(f.filter.inserted(), fresh);
  EXPECT_GT(fresh, 99500U);
  for (std::uint64_t key : keys) ASSERT_TRUE(f.filter.test(key));
  for (std::uint64_t key : keys) ASSERT_TRUE(f.filter.test_and_set(key));
  EXPECT_EQ(f.filter.inserted(), fresh);
}

TEST(RotatingFilter, EmptyKnowsNothing) {
  Fixture f(kMiB);
  for (std::uint64_t key : {0ULL, 1ULL, ~0ULL}) {
    EXPECT_FALSE(f.filter.test(key));
    EXPECT_FALSE(f.filter.test_and_set(key));
    EXPECT_TRUE(f.filter.test(key));
  }
  EXPECT_EQ(Fixture(0).filter.inserted(), 0U);
  EXPECT_EQ(Fixture(0).filter.false_positive_rate(), 0.0);
}

TEST(RotatingFilter, SizesAreWholeCacheLines) {
  const std::size_t header = RotatingFilter::bytes_for(0) - 128;
  EXPECT_EQ(header % 64, 0U);
  EXPECT_EQ(RotatingFilter::bytes_for(4 * kMiB), header + 4 * kMiB);
  EXPECT_EQ(RotatingFilter::bytes_for(4 * kMiB + 127), header + 4 * kMiB);
}

// Nothing is written outside the memory: the smallest filter, every word of it, under guard bytes.
TEST(RotatingFilter, StaysInItsMemory) {
  const std::size_t bytes = RotatingFilter::bytes_for(0);
  SharedMemory memory(bytes + 64);
  RotatingFilter filter(memory.at(), bytes);
  filter.format();
  std::mt19937_64 rng(2);
  for (int i = 0; i < 10000; ++i) filter.test_and_set(rng());
  filter.test_and_set(~0ULL);
  rotate(filter, kStart);
  for (std::size_t i = bytes; i < bytes + 64; ++i) ASSERT_EQ(static_cast<unsigned char*>(memory.at())[i], 0xa5);
}

// The estimate against a count over 2,000,000 keys that were never set: 4 sigma of the binomial, and 2 % of the rate
// for keys that were not counted as inserted because they were false positives themselves (at 0.5 % of keys, the load
// is that much higher at most).
TEST(RotatingFilter, FalsePositiveRateIsTheEstimate) {
  constexpr int kProbes = 2000000;
  for (int keys : {60000, 125926, 200000, 251851}) {
    Fixture f(kMiB);
    std::mt19937_64 rng(static_cast<std::uint64_t>(keys));
    for (int i = 0; i < keys; ++i) f.filter.test_and_set(rng());
    const double estimate = f.filter.false_positive_rate();
    int found = 0;
    for (int i = 0; i < kProbes; ++i) found += f.filter.test(rng());
    const double measured = static_cast<double>(found) / kProbes;
    const double sigma = std::sqrt(estimate * (1 - estimate) / kProbes);
    EXPECT_NEAR(measured, estimate, 4 * sigma + 0.02 * estimate) << keys << " keys";
    RecordProperty("fp_" + std::to_string(keys), std::to_string(measured));
  }
}

// 251,851 keys a period per MiB, as the header says; both halves full are wrong in at most 1 % of look-ups.
TEST(RotatingFilter, CapacityIsAsDocumented) {
  Fixture f(kMiB);
  std::mt19937_64 rng(3);
  EXPECT_FALSE(f.filter.rotate_if_due(kStart));
  for (int half = 1; half <= 2; ++half) {
    while (f.filter.inserted() < 251851 - 500) f.filter.test_and_set(rng());
    EXPECT_FALSE(f.filter.rotate_if_due(kStart + half));
    while (f.filter.inserted() < 251851 + 500) f.filter.test_and_set(rng());
    if (half == 2) {
      EXPECT_NEAR(f.filter.false_positive_rate(), 0.01, 1e-4);
      constexpr int kProbes = 1000000;
      int found = 0;
      for (int i = 0; i < kProbes; ++i) found += f.filter.test(rng());
      EXPECT_NEAR(found, kProbes * 0.01, 4 * std::sqrt(kProbes * 0.01) + 0.02 * kProbes * 0.01);
    }
    EXPECT_TRUE(f.filter.rotate_if_due(kStart + half));
    EXPECT_EQ(f.filter.inserted(), 0U);
    EXPECT_LE(f.filter.false_positive_rate(), 0.0052);
  }
}

TEST(RotatingFilter, KeysLiveOneToTwoPeriods) {
  Fixture f(kMiB);
  EXPECT_FALSE(f.filter.rotate_if_due(kStart));
  EXPECT_FALSE(f.filter.test_and_set(11));
  EXPECT_FALSE(f.filter.rotate_if_due(kStart + 23 * kHour));
  EXPECT_TRUE(f.filter.rotate_if_due(kStart + 24 * kHour));
  EXPECT_FALSE(f.filter.rotate_if_due(kStart + 24 * kHour));
  EXPECT_TRUE(f.filter.test(11));
  EXPECT_TRUE(f.filter.test_and_set(11));  // does not prolong it
  EXPECT_EQ(f.filter.inserted(), 0U);
  EXPECT_FALSE(f.filter.test_and_set(12));
  EXPECT_TRUE(f.filter.rotate_if_due(kStart + 48 * kHour));
  EXPECT_FALSE(f.filter.test(11));
  EXPECT_TRUE(f.filter.test(12));
  EXPECT_FALSE(f.filter.test_and_set(11));
  EXPECT_TRUE(f.filter.rotate_if_due(kStart + 72 * kHour));
  EXPECT_FALSE(f.filter.test(12));
  EXPECT_TRUE(f.filter.test(11));
}

TEST(RotatingFilter, ClockSetBackStartsThePeriodAnew) {
  Fixture f(kMiB);
  EXPECT_FALSE(f.filter.rotate_if_due(kStart));
  EXPECT_FALSE(f.filter.rotate_if_due(kStart - 100 * kHour));
  EXPECT_FALSE(f.filter.rotate_if_due(kStart - 77 * kHour));
  EXPECT_TRUE(f.filter.rotate_if_due(kStart - 76 * kHour));
}

TEST(RotatingFilter, AdoptionKeepsEverything) {
  Fixture f(kMiB);
  f.filter.rotate_if_due(kStart);
  f.filter.test_and_set(11);
  RotatingFilter adopted(f.memory.at(), f.memory.bytes());
  EXPECT_TRUE(adopted.test(11));
  EXPECT_EQ(adopted.inserted(), 1U);
  EXPECT_TRUE(adopted.rotate_if_due(kStart + 24 * kHour));
  EXPECT_TRUE(f.filter.test(11));
  EXPECT_EQ(f.filter.rotations(), 1U);
}

// A half of two slices: the first call clears one of them, anybody may make the second.
TEST(RotatingFilter, LargeHalvesAreClearedInSlices) {
  Fixture f(2 * 2 * RotatingFilter::kSliceWords * sizeof(std::uint64_t));
  std::mt19937_64 rng(4);
  f.filter.rotate_if_due(kStart);
  std::vector<std::uint64_t> old(1000);
  for (auto& key : old) f.filter.test_and_set(key = rng());
  rotate(f.filter, kStart + 24 * kHour);
  f.filter.test_and_set(12);
  EXPECT_FALSE(f.filter.rotate_if_due(kStart + 48 * kHour));
  int left = 0;
  for (std::uint64_t key : old) left += f.filter.test(key);
  EXPECT_NEAR(left, 500, 4 * std::sqrt(1000 * 0.25));
  EXPECT_FALSE(f.filter.test_and_set(13));  // between the slices new keys go where they will live
  RotatingFilter other(f.memory.at(), f.memory.bytes());
  EXPECT_TRUE(other.rotate_if_due(kStart + 48 * kHour + 1000));
  for (std::uint64_t key : old) ASSERT_FALSE(f.filter.test(key));
  EXPECT_TRUE(f.filter.test(12));
  EXPECT_TRUE(f.filter.test(13));
  EXPECT_EQ(f.filter.inserted(), 0U);
}

// Two processes set the same keys in the same order, kept in step: every key is fresh for exactly one of them. With a
// load and a store in place of the fetch_or this it fails: most keys are fresh for both.
TEST(RotatingFilter, OneOfManyProcessesIsFirst) {
  constexpr int kProcesses = 2;
  constexpr std::uint64_t kRounds = 20000, kKeysPerRound = 8, kKeys = kRounds * kKeysPerRound;
  Fixture f(4 * kMiB);
  SharedMemory memory(4096);
  struct Counts {
    std::atomic<std::uint64_t> arrived{0};
    std::atomic<std::uint64_t> fresh[kProcesses]{};
  };
  auto* counts = new (memory.at()) Counts{};
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      RotatingFilter mine(f.memory.at(), f.memory.bytes());
      std::mt19937_64 rng(5);
      for (std::uint64_t round = 0; round < kRounds; ++round) {
        counts->arrived.fetch_add(1);
        for (int spins = 0; counts->arrived.load() < (round + 1) * kProcesses; ++spins) {
          if (spins > 1000) sched_yield();
        }
        for (std::uint64_t i = 0; i < kKeysPerRound; ++i) counts->fresh[p] += !mine.test_and_set(rng());
      }
      _exit(0);
    }
    children.push_back(pid);
  }
  for (pid_t pid : children) {
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
  }
  const std::uint64_t sum = counts->fresh[0] + counts->fresh[1];
  EXPECT_EQ(sum, f.filter.inserted());
  EXPECT_LE(sum, kKeys);
  // No key is missed but by a false positive: at most the final rate of all of them.
  EXPECT_GE(static_cast<double>(sum), static_cast<double>(kKeys) * (1 - f.filter.false_positive_rate()));
}

// A leader is killed at any instruction of its rotations: keys of the active half stay, and the next leader goes on.
TEST(RotatingFilter, SurvivesAKilledLeader) {
  Fixture f(4 * kMiB);
  std::mt19937_64 rng(6);
  f.filter.rotate_if_due(kStart);
  std::int64_t now = kStart;
  for (int round = 0; round < 40; ++round) {
    const pid_t pid = fork();
    if (pid == 0) {
      RotatingFilter mine(f.memory.at(), f.memory.bytes());
      for (std::int64_t t = now;; t += RotatingFilter::kPeriodMs) mine.rotate_if_due(t);
    }
    usleep(static_cast<useconds_t>(rng() % 3000));
    ASSERT_EQ(kill(pid, SIGKILL), 0);
    ASSERT_EQ(waitpid(pid, nullptr, 0), pid);
    now += 1000000 * RotatingFilter::kPeriodMs;  // later than any period the child saw
    const std::uint64_t key = rng();
    EXPECT_FALSE(f.filter.test_and_set(key));
    rotate(f.filter, now);
    EXPECT_TRUE(f.filter.test(key));
    rotate(f.filter, now + RotatingFilter::kPeriodMs);
    EXPECT_FALSE(f.filter.test(key));
    EXPECT_EQ(f.filter.inserted(), 0U);
    EXPECT_EQ(f.filter.false_positive_rate(), 0.0);
  }
}

}  // namespace
}  // namespace experiment::shared
