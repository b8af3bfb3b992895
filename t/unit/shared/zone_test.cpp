#include "shared/zone.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "t/unit/shared/zone_memory.h"

namespace experiment::shared {
namespace {

using bandit::contiguous_table;

bandit::SlotTable table_of(const EpochRecord& record) {
  return contiguous_table(record.quotas);
}

// An epoch of two arms whose table follows from its id.
EpochRecord split_epoch(std::uint64_t id) {
  const int first = 100 + static_cast<int>(id * 37 % 9800);
  return epoch_record(id, {first, bandit::kSlots - first});
}

bool begin(Zone& zone, ExperimentBlock& block, const EpochRecord& record) {
  const bandit::SlotTable table = table_of(record);
  return zone.ensure_epoch(block, record, conversion_goals(record.goals), &table);
}

const DocumentImage& as_image(const std::vector<std::byte>& copy) {
  return *reinterpret_cast<const DocumentImage*>(copy.data());
}

std::string text_of(const std::vector<std::byte>& copy, std::size_t i) {
  const ImageEntry& entry = as_image(copy).entries[i];
  return {reinterpret_cast<const char*>(copy.data()) + entry.text_begin, entry.text_bytes};
}

TEST(Zone, IsAdoptedAsItWasMade) {
  TestZone t;
  t.make_block("hero").mask.store(5);
  std::string why;
  const auto again = Zone::adopt(t.memory.get(), t.memory.bytes(), why);
  ASSERT_TRUE(again) << why;
  ASSERT_EQ(again->blocks().size(), 1u);
  EXPECT_STREQ(again->blocks()[0]->key, "hero");
  EXPECT_EQ(again->blocks()[0]->mask.load(), 5u);
  EXPECT_STREQ(again->header().instance.data(), "AAAAAAAAAAAAAAAAAAAAAA");
  EXPECT_EQ(again->header().stripes, 2u);
}

TEST(Zone, WhatIsNotOursIsRefusedAndNotTouched) {
  TestZone t;
  std::string why;
  ZoneHeader& header = t.zone.header();
  EXPECT_FALSE(Zone::adopt(t.memory.get(), t.memory.bytes() * 2, why));
  EXPECT_EQ(why, "it was made with 4194304 bytes, expected 8388608");
  header.layout_version = kLayoutVersion + 1;
  EXPECT_FALSE(Zone::adopt(t.memory.get(), t.memory.bytes(), why));
  EXPECT_EQ(why,
            "it has layout " + std::to_string(kLayoutVersion + 1) + ", expected " + std::to_string(kLayoutVersion));
  header.layout_version = kLayoutVersion;
  header.magic ^= 1;
  EXPECT_FALSE(Zone::adopt(t.memory.get(), t.memory.bytes(), why));
  EXPECT_EQ(why, "it holds something else");
  EXPECT_EQ(header.magic, kZoneMagic ^ 1);
  EXPECT_FALSE(Zone::open(nullptr));
}

TEST(Zone, TooSmallIsRefusedBeforeAnythingIsWritten) {
  const std::uint64_t least = Zone::least_bytes(TestZone::options());
  ZoneMemory memory(1 << 20);
  ASSERT_LT(least, memory.bytes());
  EXPECT_FALSE(Zone::format(memory.get(), least - 1, TestZone::options()));
  const auto* bytes = static_cast<const unsigned char*>(memory.get());
  EXPECT_TRUE(std::all_of(bytes, bytes + least, [](unsigned char c) { return c == 0; }));
  auto zone = Zone::format(memory.get(), least, TestZone::options());
  ASSERT_TRUE(zone);
  EXPECT_NE(zone->ensure_block("one", 1), 0u) << "the least zone holds an experiment";
}

TEST(Zone, BlocksRowsAndEpochsAreMadeOnce) {
  TestZone t;
  ExperimentBlock& block = t.make_block("hero", 3);
  ASSERT_TRUE(t.zone.ensure_rows(block, 2));
  const EpochRecord record = epoch_record(7 << 20, {6000, 4000}, 2);
  const bandit::SlotTable table = table_of(record);
  ASSERT_TRUE(t.zone.ensure_epoch(block, record, conversion_goals(2), &table));
  const std::uint64_t used = t.in_use();
  EXPECT_EQ(&t.make_block("hero", 3), &block);
  EXPECT_TRUE(t.zone.ensure_rows(block, 2));
  EXPECT_TRUE(t.zone.ensure_epoch(block, record, conversion_goals(2), &table));
  EXPECT_TRUE(t.zone.ensure_epoch(block, record, conversion_goals(2), nullptr));
  EXPECT_EQ(t.in_use(), used);
  EXPECT_NE(&t.make_block("hero", 4), &block) << "another generation counts apart";
  EXPECT_NE(&t.make_block("her", 3), &block);
  const EpochBlock* epoch = t.zone.find_epoch(block, record.id);
  ASSERT_NE(epoch, nullptr);
  EXPECT_EQ(epoch->arms, 2);
  EXPECT_EQ(epoch->goals, 2);
  EXPECT_EQ(epoch->columns, 3);
  EXPECT_EQ(epoch->quotas[0], 6000);
  EXPECT_EQ(epoch->state.load(), EpochBlock::kOpen);
  EXPECT_EQ(t.zone.find_epoch(block, record.id + 1), nullptr);
}

TEST(Zone, AKeyOfTheGreatestLengthIsKeptWhole) {
  TestZone t;
  const std::string key(bandit::kMaxKeyBytes, 'k');
  EXPECT_EQ(std::string(t.make_block(key).key), key);
  EXPECT_EQ(&t.make_block(key), &t.make_block(key));
}

TEST(Zone, CountersOfRowsAndStripesDoNotShareABlock) {
  TestZone t(4 << 20, 8);
  ExperimentBlock& block = t.make_block("hero");
  EXPECT_EQ(t.zone.requests(block, 0, 0), nullptr) << "not allocated yet";
  ASSERT_TRUE(t.zone.ensure_rows(block, bandit::kMaxArms));
  std::set<const void*> places;
  for (int row = 0; row <= bandit::kMaxArms; ++row) {
    for (std::uint32_t stripe = 0; stripe < 8; ++stripe) {
      auto* counters = t.zone.requests(block, row, stripe);
      ASSERT_NE(counters, nullptr);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(counters) % 64, 0u);
      EXPECT_TRUE(places.insert(counters).second);
    }
  }
  EXPECT_NE(&t.zone.counters(block, 0), &t.zone.counters(block, 7));
  EXPECT_NE(&t.zone.node(0), &t.zone.node(7));
}

TEST(Zone, NoEpochMeansNoArm) {
  TestZone t;
  ExperimentBlock& block = t.make_block("hero");
  Zone::Pick pick{};
  EXPECT_FALSE(t.zone.pick(block, 0, pick));
  ASSERT_TRUE(t.zone.ensure_epoch(block, split_epoch(1), conversion_goals(1), nullptr));
  EXPECT_FALSE(t.zone.pick(block, 0, pick)) << "known for rewards only";
  ASSERT_TRUE(begin(t.zone, block, split_epoch(2)));
  for (int slot = 0; slot < bandit::kSlots; ++slot) {
    ASSERT_TRUE(t.zone.pick(block, slot, pick));
    ASSERT_EQ(pick.epoch->id, 2u);
    ASSERT_EQ(pick.arm, table_of(split_epoch(2))[static_cast<std::size_t>(slot)]);
  }
}

TEST(Zone, EqualTablesAreOneBlockUntilTheLastUserLeaves) {
  TestZone t;
  ExperimentBlock& a = t.make_block("a");
  ExperimentBlock& b = t.make_block("b");
  ASSERT_TRUE(begin(t.zone, a, split_epoch(5)));
  const std::uint64_t one = t.in_use();
  ASSERT_TRUE(begin(t.zone, b, split_epoch(5)));
  EXPECT_LT(t.in_use() - one, 1024u) << "no second table";
  const Offset shared = t.zone.find_epoch(a, 5)->table.load();
  EXPECT_EQ(t.zone.find_epoch(b, 5)->table.load(), shared);
  EXPECT_EQ(t.zone.at<TableBlock>(shared)->references.load(), 2u);
  // Two epochs on, the first table of `a` is released; `b` still has it.
  for (std::uint64_t id : {6, 7}) ASSERT_TRUE(begin(t.zone, a, split_epoch(id)));
  EXPECT_EQ(t.zone.find_epoch(a, 5)->table.load(), 0u);
  EXPECT_EQ(t.zone.at<TableBlock>(shared)->references.load(), 1u);
  Zone::Pick pick{};
  ASSERT_TRUE(t.zone.pick(b, 9999, pick));
  EXPECT_EQ(pick.arm, 1);
  const std::uint64_t used = t.in_use();
  for (std::uint64_t id : {6, 7}) ASSERT_TRUE(begin(t.zone, b, split_epoch(id)));
  EXPECT_LT(t.in_use(), used + 1024) << "the first table is gone, the others were there";
  EXPECT_EQ(t.tables(), 2u);
}

TEST(Zone, AFullRingRefusesAndTheEpochBeforeStays) {
  TestZone t;
  ExperimentBlock& block = t.make_block("hero");
  for (std::uint64_t id = 1; id <= bandit::kEpochRing; ++id) ASSERT_TRUE(begin(t.zone, block, split_epoch(id))) << id;
  const std::uint64_t used = t.in_use();
  EXPECT_FALSE(begin(t.zone, block, split_epoch(100)));
  EXPECT_EQ(t.in_use(), used);
  Zone::Pick pick{};
  ASSERT_TRUE(t.zone.pick(block, 0, pick));
  EXPECT_EQ(pick.epoch->id, static_cast<std::uint64_t>(bandit::kEpochRing));
  t.zone.seal_epoch(block, 1);
  EXPECT_EQ(t.zone.find_epoch(block, 1)->state.load(), EpochBlock::kSealed);
  t.zone.drop_epoch(block, 1);
  EXPECT_EQ(t.zone.find_epoch(block, 1), nullptr);
  EXPECT_TRUE(begin(t.zone, block, split_epoch(100)));
}

TEST(Zone, TheCurrentEpochIsNeverDropped) {
  TestZone t;
  ExperimentBlock& block = t.make_block("hero");
  ASSERT_TRUE(begin(t.zone, block, split_epoch(1)));
  t.zone.seal_epoch(block, 1);
  t.zone.drop_epoch(block, 1);
  Zone::Pick pick{};
  ASSERT_TRUE(t.zone.pick(block, 0, pick));
  EXPECT_EQ(pick.epoch->id, 1u);
}

TEST(Zone, AFullZoneKeepsTheTableInUse) {
  TestZone t(Zone::least_bytes(TestZone::options()));
  ExperimentBlock& block = t.make_block("hero");
  ASSERT_TRUE(begin(t.zone, block, split_epoch(1)));
  for (int i = 0; t.zone.ensure_block("filler-" + std::to_string(i), 1) != 0; ++i) ASSERT_LT(i, kMaxBlocks);
  EXPECT_FALSE(begin(t.zone, block, split_epoch(2))) << "no room for another table";
  EXPECT_FALSE(t.zone.ensure_rows(block, bandit::kMaxArms));
  Zone::Pick pick{};
  ASSERT_TRUE(t.zone.pick(block, 0, pick));
  EXPECT_EQ(pick.epoch->id, 1u);
}

TEST(Zone, TotalsAreReadByExperimentGenerationAndEpoch) {
  TestZone t;
  ExperimentBlock& block = t.make_block("hero", 2);
  ASSERT_TRUE(t.zone.ensure_epoch(block, epoch_record(9, {5000, 5000}, 2), conversion_goals(2), nullptr));
  EXPECT_TRUE(t.zone.read_counters().empty()) << "nothing was counted";
  EpochBlock* epoch = t.zone.find_epoch(block, 9);
  for (std::size_t i = 0; i < 9; ++i) epoch->counters[i] = i + 1;
  const Counters totals = t.zone.read_counters();
  ASSERT_EQ(totals.size(), 1u);
  EXPECT_EQ(totals.begin()->first, (CounterKey{"hero", 2, 9}));
  EXPECT_EQ(totals.begin()->second, (CounterVector{1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(Zone, AnImageIsReadAsItWasPublished) {
  TestZone t;
  EXPECT_FALSE(t.zone.copy_image()) << "none yet";
  const Offset block = t.offset_of(t.make_block("a"));
  ASSERT_TRUE(t.zone.publish_image({{"first", block}, {"", 0}, {std::string(5000, 'x'), 0}}, 42));
  auto copy = t.zone.copy_image();
  ASSERT_TRUE(copy);
  EXPECT_EQ(as_image(*copy).version, 1u);
  EXPECT_EQ(as_image(*copy).document_version, 42u);
  ASSERT_EQ(as_image(*copy).count, 3u);
  EXPECT_EQ(text_of(*copy, 0), "first");
  EXPECT_EQ(as_image(*copy).entries[0].block, block);
  EXPECT_EQ(text_of(*copy, 1), "");
  EXPECT_EQ(text_of(*copy, 2), std::string(5000, 'x'));
  ASSERT_TRUE(t.zone.publish_image({}, 43));
  copy = t.zone.copy_image();
  ASSERT_TRUE(copy);
  EXPECT_EQ(as_image(*copy).count, 0u);
  EXPECT_EQ(as_image(*copy).version, 2u);
}

TEST(Zone, AnyDamagedByteOfAnImageIsSeen) {
  TestZone t;
  ASSERT_TRUE(t.zone.publish_image({{"0123456789", 0}}, 42));
  const std::size_t bytes = t.zone.copy_image()->size();
  auto* image = t.zone.at<std::uint8_t>(t.zone.header().image.load());
  for (std::size_t i = 0; i < bytes; ++i) {
    image[i] ^= 1;
    EXPECT_FALSE(t.zone.copy_image()) << "byte " << i;
    image[i] ^= 1;
  }
  EXPECT_TRUE(t.zone.copy_image());
}

// A reader that found the offset before it was replaced looks at a block that is freed, and linked into a list.
TEST(Zone, AFreedImageIsNotTakenForOne) {
  TestZone t;
  ASSERT_TRUE(t.zone.publish_image({{"first", 0}}, 1));
  const Offset before = t.zone.header().image.load();
  ASSERT_TRUE(t.zone.publish_image({{std::string(9000, 'y'), 0}}, 2));
  t.zone.header().image.store(before);
  EXPECT_FALSE(t.zone.copy_image());
}

TEST(Zone, APlanVersionIsNeverGivenTwice) {
  TestZone t;
  ASSERT_TRUE(t.zone.publish_image({{"first", 0}}, 1));
  ASSERT_TRUE(t.zone.publish_image({{"second", 0}}, 2));
  t.zone.header().plan_version.store(1);  // as a leader leaves it that is killed between the two stores
  ASSERT_TRUE(t.zone.publish_image({{"third", 0}}, 3));
  EXPECT_EQ(as_image(*t.zone.copy_image()).version, 3u);
  EXPECT_EQ(t.zone.header().plan_version.load(), 3u);
}

TEST(Zone, AnImageThatDoesNotFitLeavesTheOneInUse) {
  TestZone t(Zone::least_bytes(TestZone::options()));
  ASSERT_TRUE(t.zone.publish_image({{"small", 0}}, 1));
  EXPECT_FALSE(t.zone.publish_image({{std::string(300000, 'x'), 0}}, 2));
  const auto copy = t.zone.copy_image();
  ASSERT_TRUE(copy);
  EXPECT_EQ(text_of(*copy, 0), "small");
  EXPECT_EQ(t.zone.header().plan_version.load(), 1u);
}

TEST(Zone, ARetiredBlockIsFreedWhenEveryWorkerMovedOn) {
  TestZone t;
  ExperimentBlock& gone = t.make_block("gone");
  ASSERT_TRUE(t.zone.ensure_rows(gone, 3));
  ASSERT_TRUE(begin(t.zone, gone, split_epoch(1)));
  const Offset kept = t.offset_of(t.make_block("kept"));
  ASSERT_TRUE(t.zone.publish_image({{"gone", t.offset_of(gone)}, {"kept", kept}}, 1));
  WorkerSlot* one = t.zone.ensure_worker(101);
  WorkerSlot* two = t.zone.ensure_worker(102);
  ASSERT_TRUE(one != nullptr && two != nullptr && one != two);
  EXPECT_EQ(t.zone.ensure_worker(101), one);
  one->plan_version = two->plan_version = 1;
  ASSERT_TRUE(t.zone.publish_image({{"kept", kept}}, 2));
  EXPECT_NE(gone.retired.load(), 0u);
  one->plan_version = 2;
  EXPECT_EQ(t.zone.free_retired(), 0) << "worker two still plans with it";
  EXPECT_EQ(t.zone.oldest_plan(), 1u);
  two->plan_version = 2;
  const std::uint64_t used = t.in_use();
  EXPECT_EQ(t.zone.free_retired(), 1);
  EXPECT_LT(t.in_use(), used - 10000) << "block, counters, epoch and table";
  ASSERT_EQ(t.zone.blocks().size(), 1u);
  EXPECT_STREQ(t.zone.blocks()[0]->key, "kept");
}

TEST(Zone, ABlockThatIsWantedAgainIsNotFreed) {
  TestZone t;
  ExperimentBlock& block = t.make_block("back");
  ASSERT_TRUE(t.zone.publish_image({{"back", t.offset_of(block)}}, 1));
  ASSERT_TRUE(t.zone.publish_image({}, 2));
  EXPECT_EQ(&t.make_block("back"), &block);
  EXPECT_EQ(t.zone.free_retired(), 0);
  EXPECT_EQ(block.retired.load(), 0u);
}

TEST(Zone, SlotsOfDeadProcessesAreDropped) {
  TestZone t;
  ASSERT_TRUE(t.zone.publish_image({}, 1));
  for (std::uint32_t pid = 1; pid <= kMaxWorkers; ++pid) ASSERT_NE(t.zone.ensure_worker(pid), nullptr);
  EXPECT_EQ(t.zone.ensure_worker(9999), nullptr) << "all are taken";
  EXPECT_EQ(t.zone.oldest_plan(), 0u);
  t.zone.drop_workers([](std::uint32_t pid) { return pid == 7; });
  WorkerSlot* seven = t.zone.ensure_worker(7);
  seven->plan_version = 1;
  EXPECT_EQ(t.zone.oldest_plan(), 1u);
  WorkerSlot* fresh = t.zone.ensure_worker(9999);
  ASSERT_NE(fresh, nullptr);
  EXPECT_EQ(fresh->plan_version.load(), 0u) << "no plan of the process that had the slot before";
}

TEST(Zone, AThousandDocumentsUseTheSpaceOfTwo) {
  TestZone t;
  std::uint64_t most_early = 0, most_late = 0, untouched = 0;
  for (std::uint64_t version = 1; version <= 1000; ++version) {
    std::vector<ImageItem> items;
    for (std::uint64_t i = 0; i < 6; ++i) {  // two of six stay, four are new
      const std::uint64_t name = i < 2 ? i : version * 10 + i;
      ExperimentBlock& block =
          t.make_block("e" + std::to_string(name), static_cast<std::uint32_t>(1 + version % 2 * (i == 5)));
      ASSERT_TRUE(t.zone.ensure_rows(block, 1 + static_cast<int>(i)));
      ASSERT_TRUE(begin(t.zone, block, split_epoch(version * 10 + i)));
      if (version > 5 && i < 2) t.zone.drop_epoch(block, (version - 5) * 10 + i);
      items.push_back({std::string(200 + version % 50, 'x'), t.offset_of(block)});
    }
    ASSERT_TRUE(t.zone.publish_image(items, version));
    EXPECT_LE(t.zone.free_retired(), 4);
    (version <= 100 ? most_early : most_late) = std::max(version <= 100 ? most_early : most_late, t.in_use());
    if (version == 500) untouched = t.zone.arena().untouched();
  }
  EXPECT_LE(most_late, most_early);
  EXPECT_EQ(t.zone.arena().untouched(), untouched) << "every block of the second half was one of the first";
  EXPECT_EQ(t.zone.blocks().size(), 6u);
}

TEST(Zone, AnExperimentTakesLittle) {
  TestZone t;
  const std::uint64_t before = t.in_use();
  ExperimentBlock& block = t.make_block("hero");
  ASSERT_TRUE(t.zone.ensure_rows(block, 4));
  EpochRecord record = epoch_record(1, {2500, 2500, 2500, 2500}, 3);
  for (std::uint64_t id = 1; id <= 10; ++id) {
    record.id = id;
    record.quotas[0] = 2500 + static_cast<int>(id);
    record.quotas[1] = 2500 - static_cast<int>(id);
    ASSERT_TRUE(begin(t.zone, block, record));
  }
  EXPECT_EQ(t.tables(), 2u) << "the current table and the one before";
  const std::uint64_t taken = t.in_use() - before - t.tables() * 10240;
  EXPECT_LE(taken, 12u * 1024) << "4 arms, 3 goals, 2 stripes, 10 open epochs, beside tables and texts";
  RecordProperty("bytes", static_cast<int>(taken));
}

// --- workers beside a leader; also built with -fsanitize=thread ---

TEST(ZoneThreads, APickIsOneOfItsOwnEpochsTable) {
  TestZone t;
  ExperimentBlock& block = t.make_block("hero");
  ASSERT_TRUE(begin(t.zone, block, split_epoch(1)));
  constexpr int kReaders = 3;
  std::atomic<bool> done{false};
  std::array<std::atomic<std::uint64_t>, kReaders> picks{}, wrong{}, missed{};
  std::vector<std::thread> readers;
  for (std::size_t r = 0; r < kReaders; ++r) {
    readers.emplace_back([&, r] {
      std::mt19937 random(static_cast<unsigned>(r));
      Zone::Pick pick{};
      while (!done.load(std::memory_order_relaxed)) {
        const int slot = static_cast<int>(random() % bandit::kSlots);
        if (t.zone.pick(block, slot, pick)) {
          const int arm = slot < split_epoch(pick.epoch->id).quotas[0] ? 0 : 1;
          if (pick.arm != arm) ++wrong[r];
          pick.epoch->counters[0].fetch_add(1, std::memory_order_relaxed);
          if (t.zone.find_epoch(block, 1) == nullptr && random() % 1024 == 0) std::this_thread::yield();
        } else {
          ++missed[r];
        }
        picks[r].fetch_add(1, std::memory_order_release);
      }
    });
  }
  // An epoch is taken out when no reader can be at it any more; nginx waits seconds instead.
  auto pass = [&] {
    std::array<std::uint64_t, kReaders> seen{};
    for (std::size_t r = 0; r < kReaders; ++r) seen[r] = picks[r].load(std::memory_order_acquire);
    for (std::size_t r = 0; r < kReaders; ++r) {
      while (picks[r].load(std::memory_order_acquire) < seen[r] + 2) std::this_thread::yield();
    }
  };
  constexpr std::uint64_t kEpochs = 3000;
  for (std::uint64_t id = 2; id <= kEpochs; ++id) {
    ASSERT_TRUE(begin(t.zone, block, split_epoch(id)));
    if (id % 32 != 0) continue;
    pass();
    for (std::uint64_t old = id - 31; old < id; ++old) t.zone.drop_epoch(block, old);
    if (id > 32) t.zone.drop_epoch(block, id - 32);
  }
  done = true;
  for (auto& reader : readers) reader.join();
  for (std::size_t r = 0; r < kReaders; ++r) {
    EXPECT_GT(picks[r].load(), kEpochs / 32);
    EXPECT_EQ(wrong[r].load(), 0u);
    EXPECT_LE(missed[r].load(), picks[r].load() / 100) << "a miss takes eight changes within one pick";
  }
}

TEST(ZoneThreads, ACopyOfTheImageIsWhole) {
  TestZone t;
  auto items_of = [](std::uint64_t version) {
    std::vector<ImageItem> items;
    for (std::uint64_t i = 0; i < 3 + version % 5; ++i) {
      items.push_back({std::string(40 + version % 7 * 13, static_cast<char>('a' + version % 26)), 0});
    }
    return items;
  };
  ASSERT_TRUE(t.zone.publish_image(items_of(1), 1));
  constexpr std::uint64_t kVersions = 4000;
  std::atomic<std::uint64_t> wrong{0}, whole{0};
  std::vector<std::thread> readers;
  for (int r = 0; r < 3; ++r) {
    readers.emplace_back([&] {
      std::uint64_t last = 0;
      while (last < kVersions) {
        const auto copy = t.zone.copy_image();
        if (!copy) continue;
        const DocumentImage& image = as_image(*copy);
        const auto expected = items_of(image.version);
        bool right = image.version >= last && image.document_version == image.version && image.count == expected.size();
        for (std::size_t i = 0; right && i < expected.size(); ++i) right = text_of(*copy, i) == expected[i].text;
        if (!right) ++wrong;
        ++whole;
        last = image.version;
      }
    });
  }
  for (std::uint64_t version = 2; version <= kVersions; ++version) {
    ASSERT_TRUE(t.zone.publish_image(items_of(version), version));
    if (version % 16 == 0) std::this_thread::yield();
  }
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(wrong.load(), 0u);
  EXPECT_GE(whole.load(), 3u);
}

TEST(ZoneThreads, WorkersThatComeAtOnceGetSlotsOfTheirOwn) {
  TestZone t;
  std::vector<WorkerSlot*> slots(8);
  std::vector<std::thread> workers;
  for (std::uint32_t w = 0; w < 8; ++w) {
    workers.emplace_back([&t, &slots, w] { slots[w] = t.zone.ensure_worker(1000 + w); });
  }
  for (auto& worker : workers) worker.join();
  for (std::uint32_t w = 0; w < 8; ++w) {
    ASSERT_NE(slots[w], nullptr);
    EXPECT_EQ(slots[w]->pid.load(), 1000 + w);
  }
}

// Stops a pick between its look at the current epoch and its look at the table: the page there is out of reach, and
// what answers the fault changes the epoch until the table's block is another one's.
struct Interruption {
  TestZone* zone;
  ExperimentBlock* block;
  void* page;
  std::size_t page_bytes;
  int faults = 0;
};
Interruption* interruption = nullptr;

void change_epochs(int) {
  ++interruption->faults;
  ::mprotect(interruption->page, interruption->page_bytes, PROT_READ | PROT_WRITE);
  for (const int first : {5000, 2500, 0}) {
    begin(interruption->zone->zone, *interruption->block,
          epoch_record(static_cast<std::uint64_t>(2 + interruption->faults * 10000 - first),
                       {first, bandit::kSlots - first}));
  }
}

TEST(Zone, APickThatWasOvertakenLooksAgain) {
  TestZone t;
  ExperimentBlock& block = t.make_block("hero");
  ASSERT_TRUE(begin(t.zone, block, epoch_record(1, {bandit::kSlots, 0})));
  const Offset table = t.zone.find_epoch(block, 1)->table.load();
  const auto page_bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  auto* slots = t.zone.at<TableBlock>(table)->arm_of_slot;
  const auto address = (reinterpret_cast<std::uintptr_t>(slots) + page_bytes - 1) / page_bytes * page_bytes;
  const int slot = static_cast<int>(address - reinterpret_cast<std::uintptr_t>(slots));
  if (static_cast<std::size_t>(slot) + page_bytes > static_cast<std::size_t>(bandit::kSlots)) {
    GTEST_SKIP() << "no page of its own on this machine";
  }

  Interruption here{&t, &block, reinterpret_cast<void*>(address), page_bytes};
  interruption = &here;
  struct sigaction before {
  }, during{};
  during.sa_handler = change_epochs;
  ASSERT_EQ(::sigaction(SIGSEGV, &during, &before), 0);
  ASSERT_EQ(::mprotect(here.page, page_bytes, PROT_NONE), 0);
  Zone::Pick pick{};
  const bool picked = t.zone.pick(block, slot, pick);
  ::sigaction(SIGSEGV, &before, nullptr);

  ASSERT_TRUE(picked);
  EXPECT_EQ(here.faults, 1);
  EXPECT_EQ(t.zone.at<EpochBlock>(block.current.load())->table.load(), table)
      << "the newest table lies where the first did";
  EXPECT_EQ(pick.epoch->quotas[1], bandit::kSlots) << "the newest epoch";
  EXPECT_EQ(pick.arm, 1);
}

// --- leaders that are killed ---

[[noreturn]] void lead(Zone zone, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (;;) {
    const std::uint64_t version = zone.header().plan_version.load() + 1;
    std::vector<ImageItem> items;
    for (std::uint64_t i = 0; i < 4; ++i) {
      const Offset offset = zone.ensure_block("e" + std::to_string(random() % 6), 1);
      if (offset == 0) continue;
      auto& block = *zone.at<ExperimentBlock>(offset);
      zone.ensure_rows(block, 2);
      begin(zone, block, split_epoch(1 + random() % 500));
      for (auto& place : block.epochs) {
        const Offset epoch = place.load();
        if (epoch != 0 && random() % 4 == 0) zone.drop_epoch(block, zone.at<EpochBlock>(epoch)->id);
      }
      items.push_back({std::string(100 + random() % 100, 'x'), offset});
    }
    zone.publish_image(items, version);
    zone.free_retired();
  }
}

TEST(ZoneCrash, AKilledLeaderLeavesAZoneThatTheNextOneLeads) {
  TestZone t(24 << 20);
  std::mt19937_64 random(3);
  std::uint64_t last_version = 0;
  for (int round = 0; round < 80; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) lead(t.zone, static_cast<std::uint64_t>(round));
    ::usleep(static_cast<useconds_t>(300 + random() % 3000));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    std::string why;
    ASSERT_TRUE(Zone::adopt(t.memory.get(), t.memory.bytes(), why)) << why;
    Zone::Pick pick{};
    for (ExperimentBlock* block : t.zone.blocks()) {
      if (block->current.load() == 0) continue;
      ASSERT_TRUE(t.zone.pick(*block, 5000, pick));
      ASSERT_EQ(pick.arm, 5000 < split_epoch(pick.epoch->id).quotas[0] ? 0 : 1);
    }
    ASSERT_TRUE(t.zone.publish_image({{"mine", 0}}, 1));
    const auto copy = t.zone.copy_image();
    ASSERT_TRUE(copy);
    ASSERT_EQ(text_of(*copy, 0), "mine");
    ASSERT_GT(as_image(*copy).version, last_version);
    last_version = as_image(*copy).version;
    t.zone.free_retired();
    ASSERT_TRUE(t.zone.blocks().empty());
  }
  EXPECT_LT(t.in_use(), t.memory.bytes() / 4) << "a killed leader loses what it had in hand, no more";
}

}  // namespace
}  // namespace experiment::shared
