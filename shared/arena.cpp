#include "shared/arena.h"

#include <cstring>

namespace experiment::shared {
namespace {

struct SizeClass {
  int index;
  std::uint64_t bytes;
};

// Four classes per doubling: 64 80 96 112, 128 160 192 224, ... rounded up to whole cache lines.
SizeClass size_class(std::uint64_t bytes) noexcept {
  if (bytes <= 64) return {0, 64};
  int log = 63 - __builtin_clzll(bytes - 1);  // 2^log < bytes <= 2^(log + 1)
  std::uint64_t step = std::uint64_t{1} << (log - 2);
  std::uint64_t quarter = (bytes - (std::uint64_t{1} << log) + step - 1) / step;  // 1..4
  int index = (log - 6) * 4 + static_cast<int>(quarter);
  std::uint64_t rounded = (std::uint64_t{1} << log) + quarter * step;
  return {index, (rounded + 63) & ~std::uint64_t{63}};
}

std::uint64_t bytes_of(int index) noexcept {
  if (index == 0) return 64;
  std::uint64_t base = std::uint64_t{64} << ((index - 1) / 4);
  return (base + base / 4 * static_cast<std::uint64_t>((index - 1) % 4 + 1) + 63) & ~std::uint64_t{63};
}

}  // namespace

void Arena::format(Offset begin, Offset end) noexcept {
  state_->end = end;
  state_->in_use = 0;
  state_->refused = 0;
  for (auto& head : state_->free) head = 0;
  state_->next = begin;
}

Offset Arena::allocate(std::uint64_t bytes) noexcept {
  auto [index, rounded] = size_class(bytes);
  if (index >= ArenaState::kClasses) return 0;
  Offset offset = take(index);
  if (Offset next = state_->next.load(std::memory_order_relaxed); offset == 0 && rounded <= state_->end - next) {
    offset = next;
    state_->next.store(next + rounded, std::memory_order_release);
  }
  if (offset == 0) offset = cut(index, rounded);
  if (offset == 0) {
    state_->refused.fetch_add(1, std::memory_order_relaxed);
    return 0;
  }
  state_->in_use.fetch_add(rounded, std::memory_order_relaxed);
  // A slow reader of the block's former life may still look: it reads zeroes and its own check fails.
  auto* words = at<std::uint64_t>(offset);
  for (std::uint64_t i = 0; i < rounded / 8; ++i) __atomic_store_n(words + i, std::uint64_t{0}, __ATOMIC_RELAXED);
  return offset;
}

void Arena::free(Offset offset, std::uint64_t bytes) noexcept {
  auto [index, rounded] = size_class(bytes);
  give(offset, index);
  state_->in_use.fetch_sub(rounded, std::memory_order_relaxed);
}

Offset Arena::take(int index) noexcept {
  Offset offset = state_->free[index].load(std::memory_order_relaxed);
  if (offset != 0) state_->free[index].store(*at<Offset>(offset), std::memory_order_release);
  return offset;
}

void Arena::give(Offset offset, int index) noexcept {
  // Whoever reads what is written here from now on also finds the block no longer where it was published.
  std::atomic_thread_fence(std::memory_order_release);
  __atomic_store_n(at<Offset>(offset), state_->free[index].load(std::memory_order_relaxed), __ATOMIC_RELAXED);
  state_->free[index].store(offset, std::memory_order_release);
}

// The beginning of the smallest free block that is large enough; the rest of it becomes smaller free blocks.
Offset Arena::cut(int index, std::uint64_t bytes) noexcept {
  Offset offset = 0;
  int larger = index;
  while (offset == 0 && ++larger < ArenaState::kClasses) offset = take(larger);
  if (offset == 0) return 0;
  std::uint64_t left = bytes_of(larger) - bytes;
  for (Offset rest = offset + bytes; left != 0; --larger) {
    for (std::uint64_t size = bytes_of(larger); size <= left; rest += size, left -= size) give(rest, larger);
  }
  return offset;
}

}  // namespace experiment::shared
