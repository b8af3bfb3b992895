#include "shared/rotating_filter.h"

#include <algorithm>
#include <cmath>
#include <new>

namespace experiment::shared {
namespace {

constexpr int kClearedBits = 40;
constexpr std::uint64_t kClearedMask = (std::uint64_t{1} << kClearedBits) - 1;
// Marks publish nothing but themselves.
constexpr auto kRelaxed = std::memory_order_relaxed;

constexpr std::uint64_t active_half(std::uint64_t turn) {
  return turn >> kClearedBits & 1;
}

// One bit in each 16-bit lane, from the low 16 bits of the hash; the word is chosen by the high ones.
constexpr std::uint64_t marks_of(std::uint64_t key_hash) {
  return std::uint64_t{1} << (key_hash & 15) | std::uint64_t{1} << (16 + (key_hash >> 4 & 15)) |
         std::uint64_t{1} << (32 + (key_hash >> 8 & 15)) | std::uint64_t{1} << (48 + (key_hash >> 12 & 15));
}

}  // namespace

RotatingFilter::RotatingFilter(void* memory, std::size_t bytes) noexcept
    : header_(static_cast<Header*>(memory)),
      words_(reinterpret_cast<Word*>(header_ + 1)),
      words_per_half_((bytes - sizeof(Header)) / sizeof(Word) / 2) {}

void RotatingFilter::format() noexcept {
  new (header_) Header{};
  for (std::size_t i = 0; i < 2 * words_per_half_; ++i) words_[i].store(0, kRelaxed);
}

std::size_t RotatingFilter::word_of(std::uint64_t key_hash) const noexcept {
  return static_cast<std::size_t>(static_cast<unsigned __int128>(key_hash) * words_per_half_ >> 64);
}

bool RotatingFilter::test(std::uint64_t key_hash) const noexcept {
  const std::size_t word = word_of(key_hash);
  const std::uint64_t marks = marks_of(key_hash);
  return (half_words(0)[word].load(kRelaxed) & marks) == marks || (half_words(1)[word].load(kRelaxed) & marks) == marks;
}

bool RotatingFilter::test_and_set(std::uint64_t key_hash) noexcept {
  // Acquire: a half that is seen active is seen cleared. Reading first keeps the lines of keys that come again and
  // again shared.
  const std::uint64_t active = active_half(header_->turn.load(std::memory_order_acquire));
  if (test(key_hash)) return true;
  const std::uint64_t marks = marks_of(key_hash);
  const std::uint64_t before = half_words(active)[word_of(key_hash)].fetch_or(marks, kRelaxed);
  if ((before & marks) == marks) return true;
  header_->halves[active].inserted.fetch_add(1, kRelaxed);
  return false;
}

bool RotatingFilter::due(Half& active, std::int64_t now_ms) const noexcept {
  const std::int64_t started = active.started_ms.load(kRelaxed);
  if (started == 0 || now_ms < started) {
    active.started_ms.store(now_ms, kRelaxed);
    return half_rate(active) >= kFullRate;
  }
  return now_ms - started >= kPeriodMs || half_rate(active) >= kFullRate;
}

bool RotatingFilter::rotate_if_due(std::int64_t now_ms) noexcept {
  std::uint64_t turn = header_->turn.load(kRelaxed);
  const std::uint64_t active = active_half(turn);
  if (!due(header_->halves[active], now_ms)) return false;

  const std::uint64_t begin = turn & kClearedMask;
  const std::uint64_t end = std::min<std::uint64_t>(words_per_half_, begin + kSliceWords);
  Word* idle_words = half_words(active ^ 1);
  for (std::uint64_t i = begin; i < end; ++i) idle_words[i].store(0, kRelaxed);
  std::uint64_t next = (turn & ~kClearedMask) | end;
  if (end == words_per_half_) {
    Half& idle = header_->halves[active ^ 1];
    idle.inserted.store(0, kRelaxed);
    idle.started_ms.store(now_ms, kRelaxed);
    next = ((turn >> kClearedBits) + 1) << kClearedBits;
  }
  // Release: see test_and_set. It fails where a second leader was faster (two masters during an upgrade): its step
  // stands.
  const bool mine = header_->turn.compare_exchange_strong(turn, next, std::memory_order_release, kRelaxed);
  return mine && end == words_per_half_;
}

// For n keys over W words a word holds Poisson(n / W) keys, and one key leaves a given bit of a lane alone with
// probability 15/16, so that i given lanes (one bit each) are all untouched by one key with (15/16)^i. A false positive
// is a word in which all four bits are set; by inclusion and exclusion over the lanes, with the Poisson's generating
// function (exact; cf. Putze, Sanders, Singler 2007, eq. 3, which sums over the load):
//   p = sum_{i=0..4} (-1)^i C(4, i) exp(-(n / W) (1 - (15/16)^i))
double RotatingFilter::half_rate(const Half& half) const noexcept {
  const double load = static_cast<double>(half.inserted.load(kRelaxed)) / static_cast<double>(words_per_half_);
  constexpr double kBinomial[] = {1, -4, 6, -4, 1};
  double rate = 0;
  double untouched = 1;
  for (double term : kBinomial) {
    rate += term * std::exp(-load * (1 - untouched));
    untouched *= 15.0 / 16.0;
  }
  return std::max(rate, 0.0);
}

double RotatingFilter::false_positive_rate() const noexcept {
  return 1 - (1 - half_rate(header_->halves[0])) * (1 - half_rate(header_->halves[1]));
}

std::uint64_t RotatingFilter::inserted() const noexcept {
  return header_->halves[active_half(header_->turn.load(kRelaxed))].inserted.load(kRelaxed);
}

std::uint64_t RotatingFilter::rotations() const noexcept {
  return header_->turn.load(kRelaxed) >> kClearedBits;
}

}  // namespace experiment::shared
