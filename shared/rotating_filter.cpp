#include "shared/rotating_filter.h"

#include <algorithm>
#include <cmath>
#include <new>

namespace experiment::shared {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

void RotatingFilter::format() noexcept {
  new (header_) Header{};
  for (std::size_t i = 0; i < 2 * words_per_half_; ++i) words_[i].store(0, kRelaxed);
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
  constexpr std::uint64_t kClearedMask = (std::uint64_t{1} << kClearedBits) - 1;
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

}  // namespace experiment::shared
