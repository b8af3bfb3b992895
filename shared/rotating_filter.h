// Remembers 64-bit keys for one to two periods in a fixed piece of shared memory: exposures of units without a cookie's
// marks, reward ids, beacons, guardrail events. Says "was here" of a key that was not with a small, reported
// probability; never forgets within a period.
//
// Two halves of marks. New keys go into the active one, look-ups ask both; a rotation clears the idle one and makes it
// active. A key found in either half is not marked again, so whoever comes back daily is seen as new again after 24 to
// 48 h (a unit-day).
//
// Every half is a blocked Bloom filter (Putze, Sanders, Singler 2007) with blocks of one 64-bit word: all four bits of
// a key lie in one word, so that one fetch_or marks it and tells exactly, also between processes, who was first. A
// look-up costs two cache lines.
//
// Any worker may call test and test_and_set at any time, without locks; rotate_if_due is for the node's leader. Only
// lock-free atomics, no pointers: whoever is killed at whatever instruction leaves a working filter. An object is a
// view and costs nothing to make.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace experiment::shared {

class RotatingFilter {
 public:
  static constexpr std::int64_t kPeriodMs = 24 * 3600 * 1000;
  // A half is full where a look-up in it alone is wrong in 0.5 % of cases: asking both is then wrong in at most 1 %.
  // That is at 3.84 keys a word: 251,851 keys a period per MiB of the whole filter.
  static constexpr double kFullRate = 0.005;
  // What one call of rotate_if_due clears at most: 4 MiB, well under a millisecond on the event loop.
  static constexpr std::size_t kSliceWords = std::size_t{1} << 19;

  // Memory that a filter with `mark_bytes` of marks in both halves together takes, its header included.
  static constexpr std::size_t bytes_for(std::size_t mark_bytes) noexcept {
    const std::size_t half = mark_bytes < 128 ? 64 : mark_bytes / 128 * 64;  // whole cache lines, at least one
    return sizeof(Header) + 2 * half;
  }

  // A view of `bytes` of memory, aligned to 64. Requires: bytes >= bytes_for(0), the same number in every process.
  RotatingFilter(void* memory, std::size_t bytes) noexcept
      : header_(static_cast<Header*>(memory)),
        words_(reinterpret_cast<Word*>(header_ + 1)),
        words_per_half_((bytes - sizeof(Header)) / sizeof(Word) / 2) {}

  // Makes an empty filter of raw memory. Requires: nobody looks at it yet.
  void format() noexcept;

  // Whether the key is marked in either half. `key_hash` is taken as it is: it must be mixed well, as XXH3 does.
  bool test(std::uint64_t key_hash) const noexcept;
  // Returns: whether the key was there already; marks it if not. Of callers with one key at one time exactly one gets
  // false, unless a rotation falls in between their steps.
  bool test_and_set(std::uint64_t key_hash) noexcept;

  // Rotates when the active half is 24 h old or full; `now_ms` is unix time. A large idle half is cleared over several
  // calls, kSliceWords each. Returns: whether it rotated in this call.
  // A crash while clearing leaves the idle half emptied in part, which forgets keys that were due to be forgotten; the
  // next call goes on where the last one stopped. The rotation itself is one store. A clock that is set back starts the
  // active half's period anew.
  bool rotate_if_due(std::int64_t now_ms) noexcept;

  // Estimated probability that a look-up in both halves finds a key that was never marked.
  double false_positive_rate() const noexcept;
  // Keys marked in the active half.
  std::uint64_t inserted() const noexcept;
  // Rotations since format().
  std::uint64_t rotations() const noexcept { return header_->turn.load(std::memory_order_relaxed) >> kClearedBits; }

 private:
  struct alignas(64) Half {
    std::atomic<std::int64_t> started_ms;  // unix time of its activation; 0: not known yet
    std::atomic<std::uint64_t> inserted;
  };
  struct alignas(64) Header {
    // Rotations in the high 24 bits (its lowest bit: the active half), in the low 40 the words of the idle half that
    // are cleared for the next one. One word, so that a rotation and the new start of the clearing are one store.
    std::atomic<std::uint64_t> turn;
    Half halves[2];
  };
  using Word = std::atomic<std::uint64_t>;
  static_assert(Word::is_always_lock_free && sizeof(Word) == 8);

  static constexpr int kClearedBits = 40;
  static constexpr std::uint64_t active_half(std::uint64_t turn) noexcept { return turn >> kClearedBits & 1; }
  // One bit in each 16-bit lane, from the low 16 bits of the hash; the word is chosen by the high ones.
  static constexpr std::uint64_t marks_of(std::uint64_t key_hash) noexcept {
    return std::uint64_t{1} << (key_hash & 15) | std::uint64_t{1} << (16 + (key_hash >> 4 & 15)) |
           std::uint64_t{1} << (32 + (key_hash >> 8 & 15)) | std::uint64_t{1} << (48 + (key_hash >> 12 & 15));
  }
  std::size_t word_of(std::uint64_t key_hash) const noexcept {
    return static_cast<std::size_t>(static_cast<unsigned __int128>(key_hash) * words_per_half_ >> 64);
  }
  Word* half_words(std::uint64_t half) const noexcept { return words_ + half * words_per_half_; }
  double half_rate(const Half& half) const noexcept;
  bool due(Half& active, std::int64_t now_ms) const noexcept;

  Header* header_;
  Word* words_;
  std::size_t words_per_half_;
};

// Marks publish nothing but themselves.
inline bool RotatingFilter::test(std::uint64_t key_hash) const noexcept {
  const std::size_t word = word_of(key_hash);
  const std::uint64_t marks = marks_of(key_hash);
  return (half_words(0)[word].load(std::memory_order_relaxed) & marks) == marks ||
         (half_words(1)[word].load(std::memory_order_relaxed) & marks) == marks;
}

inline bool RotatingFilter::test_and_set(std::uint64_t key_hash) noexcept {
  // Acquire: a half that is seen active is seen cleared. Reading first keeps the lines of keys that come again and
  // again shared.
  const std::uint64_t active = active_half(header_->turn.load(std::memory_order_acquire));
  if (test(key_hash)) return true;
  const std::uint64_t marks = marks_of(key_hash);
  const std::uint64_t before = half_words(active)[word_of(key_hash)].fetch_or(marks, std::memory_order_relaxed);
  if ((before & marks) == marks) return true;
  header_->halves[active].inserted.fetch_add(1, std::memory_order_relaxed);
  return false;
}

}  // namespace experiment::shared
