// The shared zone as an object: a view over raw memory, cheap to copy, that every process makes for itself.
//
// Three kinds of callers. Requests read masks, epochs and tables and add to counters: no lock. Workers read the
// document image: no lock, a checksum tells a torn copy. The leader allocates, publishes and frees: it holds the zone's
// mutex (the caller's, since only nginx's own slab mutex is freed when its holder dies). Offsets stay valid across
// processes; pointers do not leave one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bandit/slot_table.h"
#include "shared/counters.h"
#include "shared/rotating_filter.h"
#include "shared/runtime.h"
#include "shared/zone_layout.h"

namespace experiment::shared {

struct ZoneOptions {
  std::uint32_t stripes = 1;  // 1 .. kMaxStripes
  std::uint64_t filter_bytes = 0;
  std::string_view instance;  // at most 23 characters
  std::string_view keys;      // at most 319 characters
};

// What the leader publishes for one experiment of the document.
struct ImageItem {
  std::string text;  // what a worker compiles
  Offset block = 0;  // 0: the zone is full
};

class Zone {
 public:
  Zone() = default;
  // Least bytes of a zone that holds the fixed parts; experiments come on top.
  static std::uint64_t least_bytes(const ZoneOptions& options) noexcept;
  // Requires: `memory` is aligned to 64. Returns: nullopt when it is too small.
  static std::optional<Zone> format(void* memory, std::uint64_t bytes, const ZoneOptions& options) noexcept;
  // Returns: the zone that lies there, or nullopt and one line in `why` (not ours, another layout, another size).
  static std::optional<Zone> adopt(void* memory, std::uint64_t bytes, std::string& why);

  // A view without checks. Requires: format() or adopt() succeeded over it. nullopt: `memory` is null.
  static std::optional<Zone> open(void* memory) noexcept {
    return memory == nullptr ? std::nullopt : std::optional<Zone>(Zone(static_cast<ZoneHeader*>(memory)));
  }

  explicit operator bool() const noexcept { return header_ != nullptr; }
  ZoneHeader& header() const noexcept { return *header_; }
  Arena arena() const noexcept { return Arena(header_, &header_->arena); }
  template <typename T>
  T* at(Offset offset) const noexcept {
    return reinterpret_cast<T*>(reinterpret_cast<std::byte*>(header_) + offset);
  }

  // --- requests: lock-free ---
  struct Pick {
    EpochBlock* epoch;
    int arm;
  };
  // The arm that owns `slot` in the current table. False: no epoch assigns yet.
  bool pick(const ExperimentBlock& block, int slot, Pick& out) const noexcept;
  // The same without looking again where the table is just being replaced. The arm is one that the epoch has, which
  // need not be one that the caller knows.
  bool try_pick(const ExperimentBlock& block, int slot, Pick& out) const noexcept;
  // The epoch with this id, sealed ones included while they are here; nullptr: unknown.
  EpochBlock* find_epoch(const ExperimentBlock& block, std::uint64_t id) const noexcept;
  bool is_killed() const noexcept { return header_->kill_all.load(std::memory_order_acquire) != 0; }
  NodeCounters& node(std::uint32_t stripe) const noexcept { return at<NodeCounters>(header_->node_counters)[stripe]; }
  // nullptr: the row was not allocated (zone full).
  RequestCounters* requests(const ExperimentBlock& block, int row, std::uint32_t stripe) const noexcept;
  ExperimentCounters& counters(const ExperimentBlock& block, std::uint32_t stripe) const noexcept;
  RotatingFilter filter() const noexcept {
    return RotatingFilter(at<void>(header_->filter), RotatingFilter::bytes_for(header_->filter_bytes));
  }

  // --- workers: lock-free ---
  // A private copy of the newest image, or nullopt when there is none or it was being replaced (ask again).
  std::optional<std::vector<std::byte>> copy_image() const;

  // --- the leader, under the zone's mutex ---
  // The block of this experiment and generation, made when it is not there; 0: the zone is full.
  Offset ensure_block(std::string_view key, std::uint32_t generation) noexcept;
  // The same where the caller knows that it is not there.
  Offset add_block(std::string_view key, std::uint32_t generation) noexcept;
  bool ensure_rows(ExperimentBlock& block, int arms) noexcept;
  // Makes the epoch known; with `table` it becomes the current one. Where it is new, it counts on from `counted`.
  // False: the zone or the ring is full.
  bool ensure_epoch(ExperimentBlock& block, const EpochRecord& record, const std::vector<GoalRecord>& goals,
                    const bandit::SlotTable* table, const CounterVector* counted = nullptr) noexcept;
  void seal_epoch(ExperimentBlock& block, std::uint64_t id) noexcept;
  // Takes a sealed epoch out. Requires: its totals are stored and it was sealed long enough ago that no request adds to
  // it.
  void drop_epoch(ExperimentBlock& block, std::uint64_t id) noexcept;
  // An image in private memory, without version and checksum. Touches no zone.
  static std::vector<std::byte> make_image(const std::vector<ImageItem>& items, std::uint64_t document_version);
  // Publishes a new image (version + 1) and retires the blocks that it does not name. False: the zone is full, the old
  // one stays.
  bool publish_image(std::vector<std::byte>& image);
  bool publish_image(const std::vector<ImageItem>& items, std::uint64_t document_version) {
    auto image = make_image(items, document_version);
    return publish_image(image);
  }
  // Keeps room for two images of `bytes` until it is released, or a full zone could never show a document without the
  // experiments that fill it. Returns: whether there is room for one.
  bool reserve_images(std::uint64_t bytes) noexcept;
  void release_reserve() noexcept;
  // Version of the oldest plan that a request of any worker still uses.
  std::uint64_t oldest_plan() const noexcept;
  // Whether the block was retired before every worker's plan; `oldest` is oldest_plan().
  static bool is_forgotten(const ExperimentBlock& block, std::uint64_t oldest) noexcept;
  // Requires: the block is forgotten, and its totals are stored.
  void free_block(Offset block) noexcept;
  // Frees all forgotten blocks. Requires: their totals are stored. Returns how many.
  int free_retired() noexcept;
  // Blocks that are alive or retired.
  std::vector<ExperimentBlock*> blocks() const;
  // Keeps the text of a runtime that the store did not take, for whoever leads next; empty: none is needed any more.
  void keep_unsaved(std::string_view text) noexcept;
  std::string unsaved() const;
  // Totals of this zone, in the form of the store.
  Counters read_counters() const;
  // Drops worker slots of processes for which `alive` says no.
  void drop_workers(bool (*alive)(std::uint32_t pid)) noexcept;

  // The calling process's slot, made when it has none; nullptr: all are taken.
  WorkerSlot* ensure_worker(std::uint32_t pid) noexcept;

 private:
  explicit Zone(ZoneHeader* header) noexcept : header_(header) {}
  Offset intern(const bandit::SlotTable& table) noexcept;
  void release_table(Offset table) noexcept;
  void free_block_at(std::atomic<Offset>& place) noexcept;

  ZoneHeader* header_ = nullptr;
};

inline bool Zone::try_pick(const ExperimentBlock& block, int slot, Pick& out) const noexcept {
  Offset current = block.current.load(std::memory_order_acquire);
  if (current == 0) return false;
  auto* epoch = at<EpochBlock>(current);
  Offset table = epoch->table.load(std::memory_order_acquire);
  if (table == 0) return false;  // replaced a moment ago: current has moved on
  unsigned arm = __atomic_load_n(&at<TableBlock>(table)->arm_of_slot[slot], __ATOMIC_RELAXED);
  std::atomic_thread_fence(std::memory_order_acquire);
  out = {epoch, static_cast<int>(arm)};
  // Same epoch before and after: its table was not released in between, so the byte is its own.
  return block.current.load(std::memory_order_relaxed) == current;
}

}  // namespace experiment::shared
