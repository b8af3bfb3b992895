#include "bandit/epoch.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace experiment::bandit {

std::int64_t epoch_length_ms(std::int64_t last_ms, std::int64_t min_epoch_ms, std::int64_t longest_window_ms) noexcept {
  const std::int64_t longest = std::max(min_epoch_ms, longest_window_ms / kEpochsPerWindow);
  // Clamped before it is multiplied, as the last epoch may have lasted for years.
  const std::int64_t last = std::clamp<std::int64_t>(last_ms, 0, longest);
  return std::clamp(std::llround(static_cast<double>(last) * kEpochGrowth), static_cast<long long>(min_epoch_ms),
                    static_cast<long long>(longest));
}

bool may_end(const CurrentEpoch& epoch) {
  if (epoch.warming_up || epoch.age_ms < epoch.length_ms) return false;
  double sum = 0, least = std::numeric_limits<double>::infinity();
  for (const double weight : epoch.weights) {
    if (weight > 0) least = std::min(least, weight);
    sum += weight;
  }
  if (!std::isfinite(sum) || !std::isfinite(least)) return false;
  return static_cast<double>(epoch.exposures) * (least / sum) >= kLeastExpected;
}

bool may_start(int unsealed) noexcept {
  return unsealed < kEpochRing;
}

std::int64_t sealed_at_ms(std::int64_t ended_ms, std::int64_t longest_window_ms) noexcept {
  return ended_ms + longest_window_ms;
}

std::optional<std::uint64_t> next_epoch_id(std::uint64_t last_id, std::uint32_t random) noexcept {
  const std::uint64_t id =
      ((epoch_number(last_id) + 1) << kEpochRandomBits) | (random & ((1u << kEpochRandomBits) - 1));
  if (id >= kEpochIdEnd) return std::nullopt;
  return id;
}

std::uint64_t epoch_number(std::uint64_t id) noexcept {
  return id >> kEpochRandomBits;
}

}  // namespace experiment::bandit
