// When to try a server again: after a random part of a window that doubles, 0.1 to 1 s, so that edges which lost a
// server together do not come back together (full jitter). What only an operator can mend is tried every 4 to 5 s.
//
// Time and random bits are arguments; an object is used by one thread at a time.
#pragma once

#include <algorithm>
#include <cstdint>

namespace experiment::shared {

class Backoff {
 public:
  static constexpr std::int64_t kFirstMs = 100;
  static constexpr std::int64_t kMostMs = 1000;
  static constexpr std::int64_t kRefusedMs = 5000;

  // `random`: 64 fresh bits. `refused`: authentication or TLS, as RedisRoundTrip::refused.
  void failed(std::int64_t now_ms, std::uint64_t random, bool refused) noexcept {
    window_ms_ = std::min(std::max(kFirstMs, 2 * window_ms_), kMostMs);
    const auto part = static_cast<std::int64_t>(random % static_cast<std::uint64_t>(window_ms_ + 1));
    until_ms_ = now_ms + (refused ? kRefusedMs - static_cast<std::int64_t>(random % (kMostMs + 1)) : part);
  }
  void succeeded() noexcept { *this = {}; }

  bool may_try(std::int64_t now_ms) const noexcept { return now_ms >= until_ms_; }
  // Until then; 0: now.
  std::int64_t wait_ms(std::int64_t now_ms) const noexcept { return may_try(now_ms) ? 0 : until_ms_ - now_ms; }

 private:
  std::int64_t window_ms_ = 0;
  std::int64_t until_ms_ = INT64_MIN;
};

}  // namespace experiment::shared
