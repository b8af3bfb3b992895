#include "shared/zone.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace experiment::shared {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;

constexpr std::uint64_t round64(std::uint64_t bytes) {
  return (bytes + 63) & ~std::uint64_t{63};
}

struct Plan {  // of the fixed parts
  Offset filter, node_counters, blocks, arena;
};

Plan plan_of(const ZoneOptions& options) {
  Plan plan{};
  plan.filter = round64(sizeof(ZoneHeader));
  plan.node_counters = round64(plan.filter + RotatingFilter::bytes_for(options.filter_bytes));
  plan.blocks = round64(plan.node_counters + sizeof(NodeCounters) * options.stripes);
  plan.arena = round64(plan.blocks + sizeof(Offset) * kMaxBlocks);
  return plan;
}

std::uint64_t id_of(const EpochBlock& epoch) {
  return __atomic_load_n(&epoch.id, __ATOMIC_RELAXED);
}

}  // namespace

std::uint64_t Zone::least_bytes(const ZoneOptions& options) noexcept {
  return plan_of(options).arena + 64 * 1024;
}

std::optional<Zone> Zone::format(void* memory, std::uint64_t bytes, const ZoneOptions& options) noexcept {
  if (bytes < least_bytes(options)) return std::nullopt;
  Plan plan = plan_of(options);
  std::memset(memory, 0, plan.arena);
  // cppcheck-suppress legacyUninitvar
  auto* header = new (memory) ZoneHeader{};
  header->layout_version = kLayoutVersion;
  header->stripes = options.stripes;
  header->bytes = bytes;
  header->filter_bytes = options.filter_bytes;
  options.instance.copy(header->instance.data(), header->instance.size() - 1);
  options.keys.copy(header->keys.data(), header->keys.size() - 1);
  header->filter = plan.filter;
  header->node_counters = plan.node_counters;
  header->blocks = plan.blocks;
  Zone zone(header);
  zone.arena().format(plan.arena, bytes & ~std::uint64_t{63});
  zone.filter().format();
  std::atomic_thread_fence(kRelease);
  header->magic = kZoneMagic;
  return zone;
}

std::optional<Zone> Zone::adopt(void* memory, std::uint64_t bytes, std::string& why) {
  auto* header = static_cast<ZoneHeader*>(memory);
  if (header->magic != kZoneMagic) {
    why = "it holds something else";
  } else if (header->layout_version != kLayoutVersion) {
    why = "it has layout " + std::to_string(header->layout_version) + ", expected " + std::to_string(kLayoutVersion);
  } else if (header->bytes != bytes) {
    why = "it was made with " + std::to_string(header->bytes) + " bytes, expected " + std::to_string(bytes);
  } else {
    return Zone(header);
  }
  return std::nullopt;
}

bool Zone::pick(const ExperimentBlock& block, int slot, Pick& out) const noexcept {
  for (int tries = 0; tries < 8; ++tries) {
    if (try_pick(block, slot, out) && out.arm < out.epoch->arms) return true;
    if (block.current.load(kRelaxed) == 0) return false;
  }
  return false;
}

EpochBlock* Zone::find_epoch(const ExperimentBlock& block, std::uint64_t id) const noexcept {
  if (Offset current = block.current.load(kAcquire); current != 0 && id_of(*at<EpochBlock>(current)) == id) {
    return at<EpochBlock>(current);
  }
  for (const auto& place : block.epochs) {
    Offset offset = place.load(kAcquire);
    if (offset != 0 && id_of(*at<EpochBlock>(offset)) == id) return at<EpochBlock>(offset);
  }
  return nullptr;
}

RequestCounters* Zone::requests(const ExperimentBlock& block, int row, std::uint32_t stripe) const noexcept {
  Offset offset = block.requests[static_cast<std::size_t>(row)].load(kAcquire);
  return offset == 0 ? nullptr : at<RequestCounters>(offset) + stripe;
}

ExperimentCounters& Zone::counters(const ExperimentBlock& block, std::uint32_t stripe) const noexcept {
  return at<ExperimentCounters>(block.counters.load(kRelaxed))[stripe];
}

Offset Zone::ensure_block(std::string_view key, std::uint32_t generation) noexcept {
  auto* places = at<std::atomic<Offset>>(header_->blocks);
  for (int i = 0; i < kMaxBlocks; ++i) {
    Offset offset = places[i].load(kRelaxed);
    if (offset == 0) continue;
    auto* block = at<ExperimentBlock>(offset);
    if (block->generation != generation || key != block->key) continue;
    block->retired.store(0, kRelease);
    return offset;
  }
  return add_block(key, generation);
}

Offset Zone::add_block(std::string_view key, std::uint32_t generation) noexcept {
  auto* places = at<std::atomic<Offset>>(header_->blocks);
  auto* empty = std::find_if(places, places + kMaxBlocks, [](const auto& place) { return place.load(kRelaxed) == 0; });
  if (empty == places + kMaxBlocks) return 0;
  Arena arena = this->arena();
  Offset offset = arena.allocate(sizeof(ExperimentBlock));
  Offset counters = offset == 0 ? 0 : arena.allocate(sizeof(ExperimentCounters) * header_->stripes);
  if (counters == 0) {
    if (offset != 0) arena.free(offset, sizeof(ExperimentBlock));
    return 0;
  }
  auto* block = at<ExperimentBlock>(offset);
  key.copy(block->key, sizeof(block->key) - 1);
  block->generation = generation;
  block->counters.store(counters, kRelaxed);
  empty->store(offset, kRelease);
  return offset;
}

bool Zone::ensure_rows(ExperimentBlock& block, int arms) noexcept {
  for (int row = 0; row <= arms; ++row) {
    auto& place = block.requests[static_cast<std::size_t>(row)];
    if (place.load(kRelaxed) != 0) continue;
    Offset offset = arena().allocate(sizeof(RequestCounters) * header_->stripes);
    if (offset == 0) return false;
    place.store(offset, kRelease);
  }
  return true;
}

bool Zone::ensure_epoch(ExperimentBlock& block, const EpochRecord& record, const std::vector<GoalRecord>& goals,
                        const bandit::SlotTable* table, const CounterVector* counted) noexcept {
  int arms = static_cast<int>(record.quotas.size());
  int columns = columns_of(goals, record.goals);
  std::atomic<Offset>* empty = nullptr;
  Offset offset = 0;
  for (auto& place : block.epochs) {
    Offset there = place.load(kRelaxed);
    if (there == 0) {
      if (empty == nullptr) empty = &place;
    } else if (at<EpochBlock>(there)->id == record.id) {
      offset = there;
      break;
    }
  }
  if (offset == 0) {
    if (empty == nullptr) return false;
    offset = arena().allocate(EpochBlock::bytes(arms, columns));
    if (offset == 0) return false;
    auto* epoch = at<EpochBlock>(offset);
    __atomic_store_n(&epoch->id, record.id, __ATOMIC_RELAXED);
    epoch->arms = static_cast<std::uint16_t>(arms);
    epoch->goals = static_cast<std::uint16_t>(record.goals);
    epoch->columns = static_cast<std::uint16_t>(columns);
    for (int a = 0; a < arms; ++a) {
      epoch->quotas[static_cast<std::size_t>(a)] =
          static_cast<std::uint16_t>(record.quotas[static_cast<std::size_t>(a)]);
    }
    std::size_t cells = static_cast<std::size_t>((1 + arms) * columns);
    for (std::size_t i = 0; counted != nullptr && i < std::min(cells, counted->size()); ++i)
      epoch->counters[i].store((*counted)[i], kRelaxed);
    epoch->state.store(EpochBlock::kOpen, kRelaxed);
    empty->store(offset, kRelease);
  }
  if (table == nullptr || block.current.load(kRelaxed) == offset) return true;
  auto* epoch = at<EpochBlock>(offset);
  if (epoch->table.load(kRelaxed) == 0) {
    Offset interned = intern(*table);
    if (interned == 0) return false;
    epoch->table.store(interned, kRelease);
  }
  Offset before = block.current.exchange(offset, std::memory_order_acq_rel);
  // The table just replaced stays for readers that are under way; older ones are released.
  for (auto& place : block.epochs) {
    Offset other = place.load(kRelaxed);
    if (other == 0 || other == offset || other == before) continue;
    auto& table = at<EpochBlock>(other)->table;
    if (table.load(kRelaxed) == 0) continue;
    if (Offset old = table.exchange(0, std::memory_order_acq_rel); old != 0) release_table(old);
  }
  return true;
}

void Zone::seal_epoch(ExperimentBlock& block, std::uint64_t id) noexcept {
  if (EpochBlock* epoch = find_epoch(block, id)) epoch->state.store(EpochBlock::kSealed, kRelease);
}

void Zone::drop_epoch(ExperimentBlock& block, std::uint64_t id) noexcept {
  for (auto& place : block.epochs) {
    Offset offset = place.load(kRelaxed);
    if (offset == 0 || at<EpochBlock>(offset)->id != id || block.current.load(kRelaxed) == offset) continue;
    place.store(0, kRelease);
    auto* epoch = at<EpochBlock>(offset);
    if (Offset table = epoch->table.exchange(0, std::memory_order_acq_rel); table != 0) release_table(table);
    arena().free(offset, EpochBlock::bytes(epoch->arms, epoch->columns));
    return;
  }
}

Offset Zone::intern(const bandit::SlotTable& table) noexcept {
  std::uint64_t hash = XXH3_64bits(table.data(), table.size());
  std::atomic<Offset>& chain = header_->tables[hash % kTableChains];
  for (Offset offset = chain.load(kRelaxed); offset != 0; offset = at<TableBlock>(offset)->next.load(kRelaxed)) {
    auto* block = at<TableBlock>(offset);
    if (block->hash == hash && std::memcmp(block->arm_of_slot, table.data(), table.size()) == 0) {
      block->references.fetch_add(1, kRelaxed);
      return offset;
    }
  }
  Offset offset = arena().allocate(sizeof(TableBlock));
  if (offset == 0) return 0;
  auto* block = at<TableBlock>(offset);
  block->hash = hash;
  for (std::size_t i = 0; i < table.size(); ++i) __atomic_store_n(&block->arm_of_slot[i], table[i], __ATOMIC_RELAXED);
  block->references.store(1, kRelaxed);
  block->next.store(chain.load(kRelaxed), kRelaxed);
  chain.store(offset, kRelease);
  return offset;
}

void Zone::release_table(Offset table) noexcept {
  if (at<TableBlock>(table)->references.fetch_sub(1, kRelaxed) != 1) return;
  std::atomic<Offset>* link = &header_->tables[at<TableBlock>(table)->hash % kTableChains];
  while (link->load(kRelaxed) != 0 && link->load(kRelaxed) != table) link = &at<TableBlock>(link->load(kRelaxed))->next;
  if (link->load(kRelaxed) != table) return;
  link->store(at<TableBlock>(table)->next.load(kRelaxed), kRelease);
  arena().free(table, sizeof(TableBlock));
}

std::uint64_t Zone::oldest_plan() const noexcept {
  std::uint64_t oldest = header_->plan_version.load(kRelaxed);
  bool room = false;
  for (const auto& worker : header_->workers) {
    if (worker.pid.load(kAcquire) != 0) {
      oldest = std::min(oldest, worker.plan_version.load(kAcquire));
    } else {
      room = true;
    }
  }
  return room ? oldest : 0;  // somebody may have found no slot, and use whatever plan
}

bool Zone::is_forgotten(const ExperimentBlock& block, std::uint64_t oldest) noexcept {
  std::uint64_t retired = block.retired.load(kRelaxed);
  return retired != 0 && retired <= oldest;
}

int Zone::free_retired() noexcept {
  std::uint64_t oldest = oldest_plan();
  int freed = 0;
  auto* places = at<std::atomic<Offset>>(header_->blocks);
  for (int i = 0; i < kMaxBlocks; ++i) {
    Offset block = places[i].load(kRelaxed);
    if (block == 0 || !is_forgotten(*at<ExperimentBlock>(block), oldest)) continue;
    free_block_at(places[i]);
    ++freed;
  }
  return freed;
}

void Zone::free_block(Offset block) noexcept {
  auto* places = at<std::atomic<Offset>>(header_->blocks);
  auto* place = std::find_if(places, places + kMaxBlocks, [&](const auto& p) { return p.load(kRelaxed) == block; });
  if (place != places + kMaxBlocks) free_block_at(*place);
}

void Zone::free_block_at(std::atomic<Offset>& place) noexcept {
  Offset offset = place.load(kRelaxed);
  place.store(0, kRelease);
  auto* block = at<ExperimentBlock>(offset);
  block->current.store(0, kRelease);
  for (auto& epoch_place : block->epochs) {
    if (Offset epoch = epoch_place.load(kRelaxed); epoch != 0) drop_epoch(*block, at<EpochBlock>(epoch)->id);
  }
  for (auto& row : block->requests) {
    if (Offset requests = row.exchange(0); requests != 0) {
      arena().free(requests, sizeof(RequestCounters) * header_->stripes);
    }
  }
  arena().free(block->counters.load(kRelaxed), sizeof(ExperimentCounters) * header_->stripes);
  arena().free(offset, sizeof(ExperimentBlock));
}

void Zone::keep_unsaved(std::string_view text) noexcept {
  Offset next = text.empty() ? 0 : arena().allocate(sizeof(UnsavedRuntime) + text.size());
  if (next != 0) {
    at<UnsavedRuntime>(next)->bytes = text.size();
    std::memcpy(at<UnsavedRuntime>(next)->text, text.data(), text.size());
  }
  Offset before = header_->unsaved.exchange(next, std::memory_order_acq_rel);
  if (before != 0) arena().free(before, sizeof(UnsavedRuntime) + at<UnsavedRuntime>(before)->bytes);
}

std::string Zone::unsaved() const {
  Offset offset = header_->unsaved.load(kAcquire);
  return offset == 0 ? std::string() : std::string(at<UnsavedRuntime>(offset)->text, at<UnsavedRuntime>(offset)->bytes);
}

std::vector<ExperimentBlock*> Zone::blocks() const {
  std::vector<ExperimentBlock*> all;
  auto* places = at<std::atomic<Offset>>(header_->blocks);
  for (int i = 0; i < kMaxBlocks; ++i) {
    if (Offset block = places[i].load(kAcquire); block != 0) all.push_back(at<ExperimentBlock>(block));
  }
  return all;
}

Counters Zone::read_counters() const {
  Counters totals;
  for (ExperimentBlock* block : blocks()) {
    for (auto& place : block->epochs) {
      Offset offset = place.load(kAcquire);
      if (offset == 0) continue;
      const auto* epoch = at<EpochBlock>(offset);
      // Read in the thread pool, where a leader that lost its lease may meet blocks that the next one has freed.
      if (epoch->arms > bandit::kMaxArms || epoch->columns > 1 + kValueColumns * static_cast<int>(bandit::kMaxGoals))
        continue;
      CounterVector vector(static_cast<std::size_t>(1 + epoch->arms) * epoch->columns);
      bool any = false;
      for (std::size_t i = 0; i < vector.size(); ++i) {
        vector[i] = epoch->counters[i].load(kRelaxed);
        any = any || vector[i] != 0;
      }
      if (any) totals[{block->key, block->generation, epoch->id}] = std::move(vector);
    }
  }
  return totals;
}

WorkerSlot* Zone::ensure_worker(std::uint32_t pid) noexcept {
  for (auto& worker : header_->workers) {
    if (worker.pid.load(kRelaxed) == pid) return &worker;
  }
  for (auto& worker : header_->workers) {
    std::uint32_t free = 0;
    if (worker.pid.load(kRelaxed) != 0 || !worker.pid.compare_exchange_strong(free, pid)) continue;
    worker.plan_version.store(0, kRelease);
    return &worker;
  }
  return nullptr;
}

void Zone::drop_workers(bool (*alive)(std::uint32_t pid)) noexcept {
  for (auto& worker : header_->workers) {
    std::uint32_t pid = worker.pid.load(kRelaxed);
    if (pid != 0 && !alive(pid)) worker.pid.compare_exchange_strong(pid, 0);
  }
}

}  // namespace experiment::shared
