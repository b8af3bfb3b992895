#include "shared/arena.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "t/unit/shared/zone_memory.h"

namespace experiment::shared {
namespace {

constexpr std::uint64_t kBegin = 4096;

struct TestArena {
  explicit TestArena(std::uint64_t bytes)
      : memory(bytes), state(new (memory.get()) ArenaState{}), arena(memory.get(), state) {
    arena.format(kBegin, bytes);
  }
  ZoneMemory memory;
  ArenaState* state;
  Arena arena;
};

// What an allocation of `bytes` takes.
std::uint64_t taken(Arena& arena, std::uint64_t bytes) {
  const std::uint64_t before = arena.in_use();
  const Offset offset = arena.allocate(bytes);
  EXPECT_NE(offset, 0u) << bytes;
  const std::uint64_t rounded = arena.in_use() - before;
  arena.free(offset, bytes);
  EXPECT_EQ(arena.in_use(), before) << bytes;
  return rounded;
}

TEST(Arena, EverySizeFitsItsClassAndWastesAtMostAQuarterAndALine) {
  TestArena t(64 << 20);
  const std::uint64_t all = 5 << 20;
  for (std::uint64_t bytes = 1; bytes <= all; bytes += bytes < 70000 ? 1 : 997) {
    const Offset offset = t.arena.allocate(bytes);
    ASSERT_NE(offset, 0u) << bytes;
    const std::uint64_t rounded = t.arena.in_use();
    ASSERT_GE(rounded, bytes);
    ASSERT_EQ(rounded % 64, 0u) << bytes;
    ASSERT_LE(rounded, bytes + bytes / 4 + 64) << bytes;
    ASSERT_EQ(offset % 64, 0u) << bytes;
    t.arena.free(offset, bytes);
    ASSERT_EQ(t.arena.in_use(), 0u) << bytes;
  }
  for (int log = 6; log <= 22; ++log) {
    const std::uint64_t power = std::uint64_t{1} << log;
    EXPECT_EQ(taken(t.arena, power), power);
    EXPECT_GT(taken(t.arena, power + 1), power);
    EXPECT_LE(taken(t.arena, power - 1), power);
  }
}

// A block freed as one size and taken as another must be large enough for both: one class, one rounded size.
TEST(Arena, SizesThatShareAFreeListShareARoundedSize) {
  TestArena t(64 << 20);
  std::map<Offset, std::uint64_t> rounded_at;  // by the block that a class keeps on its list
  for (std::uint64_t bytes = 1; bytes <= 300000; bytes += bytes < 5000 ? 1 : 61) {
    const Offset offset = t.arena.allocate(bytes);
    const auto [place, fresh] = rounded_at.try_emplace(offset, t.arena.in_use());
    ASSERT_EQ(place->second, t.arena.in_use()) << bytes;
    t.arena.free(offset, bytes);
  }
}

TEST(Arena, BlocksNeverOverlapAndComeZeroed) {
  TestArena t(8 << 20);
  std::mt19937_64 random(7);
  std::map<Offset, std::uint64_t> live;  // bytes by offset
  auto check = [&](Offset offset, std::uint64_t bytes) {
    auto next = live.lower_bound(offset);
    if (next != live.end()) {
      ASSERT_LE(offset + bytes, next->first);
    }
    if (next != live.begin()) {
      --next;
      ASSERT_LE(next->first + next->second, offset);
    }
    ASSERT_GE(offset, kBegin);
    ASSERT_LE(offset + bytes, t.memory.bytes());
  };
  for (int i = 0; i < 20000; ++i) {
    if (live.empty() || random() % 100 < 52) {
      const std::uint64_t bytes = 1 + random() % (random() % 10 == 0 ? 200000 : 3000);
      const Offset offset = t.arena.allocate(bytes);
      if (offset == 0) continue;
      ASSERT_NO_FATAL_FAILURE(check(offset, bytes));
      const auto* begin = t.arena.at<unsigned char>(offset);
      ASSERT_TRUE(std::all_of(begin, begin + bytes, [](unsigned char c) { return c == 0; })) << bytes;
      std::memset(t.arena.at<void>(offset), 0xa5, bytes);
      live[offset] = bytes;
    } else {
      auto victim = live.begin();
      std::advance(victim, static_cast<long>(random() % live.size()));
      t.arena.free(victim->first, victim->second);
      live.erase(victim);
    }
  }
  for (const auto& [offset, bytes] : live) t.arena.free(offset, bytes);
  EXPECT_EQ(t.arena.in_use(), 0u);
}

TEST(Arena, FreedBlocksAreUsedAgainNewestFirst) {
  TestArena t(1 << 20);
  const Offset a = t.arena.allocate(1000), b = t.arena.allocate(1000), other = t.arena.allocate(300);
  const std::uint64_t untouched = t.arena.untouched();
  t.arena.free(a, 1000);
  t.arena.free(b, 1000);
  EXPECT_EQ(t.arena.allocate(1000), b);
  EXPECT_EQ(t.arena.allocate(1000), a);
  EXPECT_EQ(t.arena.untouched(), untouched);
  EXPECT_NE(t.arena.allocate(300), other);
}

TEST(Arena, AFullArenaRefusesCountsItAndGoesOn) {
  TestArena t(kBegin + 10 * 1024);
  std::vector<Offset> blocks;
  while (const Offset offset = t.arena.allocate(1024)) blocks.push_back(offset);
  EXPECT_EQ(blocks.size(), 10u) << "to the last byte";
  EXPECT_EQ(t.arena.untouched(), 0u);
  EXPECT_EQ(t.state->refused.load(), 1u);
  EXPECT_EQ(t.arena.in_use(), 10u * 1024);
  EXPECT_EQ(t.arena.allocate(64), 0u) << "never by breaking up a block in use";
  t.arena.free(blocks.back(), 1024);
  EXPECT_EQ(t.arena.allocate(1024), blocks.back());
  for (const std::uint64_t huge :
       {std::uint64_t{1} << 37, std::uint64_t{1} << 40, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    EXPECT_EQ(t.arena.allocate(huge), 0u) << huge;
  }
}

// Follows every free list: each block lies in the arena once, and the lists end.
void expect_sound_lists(const TestArena& t) {
  std::map<Offset, int> seen;
  for (const auto& head : t.state->free) {
    for (Offset offset = head.load(); offset != 0; offset = *t.arena.at<Offset>(offset)) {
      ASSERT_GE(offset, kBegin);
      ASSERT_LT(offset, t.state->next.load());
      ASSERT_EQ(++seen[offset], 1) << "on two lists, or twice on one";
    }
  }
}

struct Held {
  Offset offset;
  std::uint64_t bytes;
};

// Allocates and frees until it is killed; never writes behind what it was given.
[[noreturn]] void churn(Arena arena, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Held> held;
  held.reserve(64);
  for (;;) {
    if (held.size() < 40 && random() % 2 == 0) {
      const std::uint64_t bytes = 1 + random() % 5000;
      if (const Offset offset = arena.allocate(bytes)) held.push_back({offset, bytes});
    } else if (!held.empty()) {
      std::swap(held[random() % held.size()], held.back());
      arena.free(held.back().offset, held.back().bytes);
      held.pop_back();
    }
  }
}

TEST(Arena, ALeaderKilledAtAnyInstructionLeavesASoundArena) {
  TestArena t(32 << 20);
  // What the parent holds must never be handed to anybody else.
  std::vector<Held> mine;
  for (std::uint64_t bytes : {64, 500, 3000, 4999}) {
    mine.push_back({t.arena.allocate(bytes), bytes});
    std::memset(t.arena.at<void>(mine.back().offset), 0x5a, bytes);
  }
  std::mt19937_64 random(11);
  for (int round = 0; round < 60; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) churn(t.arena, static_cast<std::uint64_t>(round));
    ::usleep(static_cast<useconds_t>(200 + random() % 2000));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    ASSERT_NO_FATAL_FAILURE(expect_sound_lists(t)) << "round " << round;
  }
  for (const auto& [offset, bytes] : mine) {
    const auto* begin = t.arena.at<unsigned char>(offset);
    EXPECT_TRUE(std::all_of(begin, begin + bytes, [](unsigned char c) { return c == 0x5a; }));
  }
  // What is handed out from now on does not overlap either.
  std::map<Offset, std::uint64_t> live;
  for (const auto& [offset, bytes] : mine) live[offset] = bytes;
  for (int i = 0; i < 3000; ++i) {
    const std::uint64_t bytes = 1 + random() % 5000;
    const Offset offset = t.arena.allocate(bytes);
    if (offset == 0) break;
    ASSERT_TRUE(live.emplace(offset, bytes).second);
  }
  EXPECT_GT(live.size(), 500u);
  Offset end = 0;
  for (const auto& [offset, bytes] : live) {
    ASSERT_LE(end, offset);
    end = offset + bytes;
  }
}

}  // namespace
}  // namespace experiment::shared
