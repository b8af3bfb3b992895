// Memory for a zone of a test: anonymous, shared with children of the process, and a small document to put into it.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "shared/zone.h"

namespace experiment::shared {

class ZoneMemory {
 public:
  explicit ZoneMemory(std::uint64_t bytes)
      : bytes_(bytes), memory_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
  }
  ~ZoneMemory() { ::munmap(memory_, bytes_); }
  ZoneMemory(const ZoneMemory&) = delete;
  ZoneMemory& operator=(const ZoneMemory&) = delete;
  void* get() const { return memory_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::uint64_t bytes_;
  void* memory_;
};

// A formatted zone.
struct TestZone {
  explicit TestZone(std::uint64_t bytes = 4 << 20, std::uint32_t stripes = 2)
      : memory(bytes), zone(*Zone::format(memory.get(), bytes, options(stripes))) {}
  static ZoneOptions options(std::uint32_t stripes = 2) {
    ZoneOptions options;
    options.stripes = stripes;
    options.filter_bytes = 4096;
    options.instance = "AAAAAAAAAAAAAAAAAAAAAA";
    return options;
  }
  ExperimentBlock& make_block(const std::string& key, std::uint32_t generation = 1) {
    const Offset offset = zone.ensure_block(key, generation);
    if (offset == 0) throw std::bad_alloc();
    return *zone.at<ExperimentBlock>(offset);
  }
  Offset offset_of(const ExperimentBlock& block) const {
    return static_cast<Offset>(reinterpret_cast<const std::byte*>(&block) -
                               static_cast<const std::byte*>(memory.get()));
  }
  std::uint64_t in_use() const { return zone.arena().in_use(); }
  std::uint64_t tables() const {
    std::uint64_t count = 0;
    for (const auto& chain : zone.header().tables) {
      for (Offset at = chain.load(); at != 0; at = zone.at<TableBlock>(at)->next.load()) ++count;
    }
    return count;
  }

  ZoneMemory memory;
  Zone zone;
};

inline EpochRecord epoch_record(std::uint64_t id, std::vector<int> quotas, int goals = 1) {
  EpochRecord record;
  record.id = id;
  record.quotas = std::move(quotas);
  record.goals = goals;
  return record;
}

inline std::vector<GoalRecord> conversion_goals(int count) {
  std::vector<GoalRecord> goals;
  for (int g = 0; g < count; ++g) goals.push_back({"goal-" + std::to_string(g)});
  return goals;
}

}  // namespace experiment::shared
