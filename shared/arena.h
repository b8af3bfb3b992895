// Allocation inside a shared zone: blocks named by their offset, kept in lists of equal size when freed.
//
// Only the leader of a node allocates and frees, under the zone's one mutex; every step commits with one store, so a
// leader that is killed in between loses at most the block it had in hand (it leaks until the zone is made anew), never
// the arena. Freed blocks are cut up only when nothing else is left. A full arena refuses; it never evicts and never
// moves a block.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace experiment::shared {

using Offset = std::uint64_t;  // bytes from the start of the zone; 0: none

// Lives inside the zone.
struct ArenaState {
  static constexpr int kClasses = 128;  // four per doubling from 64 bytes up
  std::atomic<std::uint64_t> next{0};   // first byte never handed out
  std::atomic<std::uint64_t> end{0};
  std::atomic<std::uint64_t> in_use{0};   // bytes handed out and not freed
  std::atomic<std::uint64_t> refused{0};  // allocations refused because the zone is full
  std::array<std::atomic<Offset>, kClasses> free{};
};

class Arena {
 public:
  // `base` is the start of the zone; `state` lies inside it. Requires: format() ran once over this memory.
  Arena(void* base, ArenaState* state) noexcept : base_(static_cast<std::byte*>(base)), state_(state) {}

  // Hands the bytes [begin, end) of the zone to the arena. Requires: begin is a multiple of 64.
  void format(Offset begin, Offset end) noexcept;
  // Returns: zeroed memory of at least `bytes`, aligned to 64, or 0 when the zone is full.
  Offset allocate(std::uint64_t bytes) noexcept;
  // Requires: `offset` came from allocate(bytes) and nobody reads it any more (or every reader checks what it read).
  void free(Offset offset, std::uint64_t bytes) noexcept;

  std::uint64_t in_use() const noexcept { return state_->in_use.load(std::memory_order_relaxed); }
  // Bytes never handed out: what a first-time allocation may still take.
  std::uint64_t untouched() const noexcept { return state_->end - state_->next; }

  template <typename T>
  T* at(Offset offset) const noexcept {
    return reinterpret_cast<T*>(base_ + offset);
  }

 private:
  Offset take(int index) noexcept;
  void give(Offset offset, int index) noexcept;
  Offset cut(int index, std::uint64_t bytes) noexcept;
  std::byte* base_;
  ArenaState* state_;
};

}  // namespace experiment::shared
