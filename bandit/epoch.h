// The life of an epoch: how long it should be, when it may end, when it is sealed, and what it is called.
//
// An epoch is an interval of constant weights, inside which assignment is a fair draw with known probabilities.
// Current: it assigns. Open: it ended, and still takes rewards until its end plus the longest goal window W. Sealed:
// totals final. Pure functions, called by the allocator; times are milliseconds, of one clock. No locking.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace experiment::bandit {

inline constexpr int kEpochRing = 72;         // epochs that the ring holds, the current one included
inline constexpr double kLeastExpected = 50;  // first exposures of every arm with weight, before an epoch may end
inline constexpr double kEpochGrowth = 1.25;
inline constexpr int kEpochsPerWindow = 28;  // epochs grow up to W / 28
inline constexpr int kEpochRandomBits = 20;
inline constexpr std::uint64_t kEpochIdEnd = 1ull << 48;  // ids are below; 6 bytes in the cookie

// Length of the next epoch: clamp(1.25 * last, min_epoch, max(min_epoch, W / 28)). `last_ms` is how long the last epoch
// really was, 0 for the first. So a short forced epoch is followed by short ones, and with an epoch of at least 10 s at
// most 65 are open at any time, however short the first.
std::int64_t epoch_length_ms(std::int64_t last_ms, std::int64_t min_epoch_ms, std::int64_t longest_window_ms) noexcept;

struct CurrentEpoch {
  std::int64_t age_ms = 0;
  std::int64_t length_ms = 0;   // of epoch_length_ms()
  std::uint64_t exposures = 0;  // N_e: over the arms, without the baseline
  std::vector<double> weights;  // of the arms; any scale
  bool warming_up = false;      // of bandit/policy
};

// Whether the current epoch may give way to one with other weights: it is as old as its length, N_e * min_a w_a over
// the arms with weight is at least 50 (below that the intervals of the estimates break, statistics.md 2.3), and the
// warm-up is over. False when no weight is positive and finite. A change of arms or a kill ends an epoch without
// asking.
bool may_end(const CurrentEpoch& epoch);

// Whether the ring has room for one more epoch without evicting one that is not sealed; `unsealed` counts the open ones
// and the current one. Where it has not, the current epoch is prolonged.
bool may_start(int unsealed) noexcept;

// Rewards count until then.
std::int64_t sealed_at_ms(std::int64_t ended_ms, std::int64_t longest_window_ms) noexcept;

// Id of the epoch after `last_id` (0: the first, number 1): number * 2^20 + 20 random bits, so that two allocators can
// never publish one id with two tables. Only the low 20 bits of `random` are read. nullopt when 2^28 - 1 epochs are
// used up.
std::optional<std::uint64_t> next_epoch_id(std::uint64_t last_id, std::uint32_t random) noexcept;
std::uint64_t epoch_number(std::uint64_t id) noexcept;

}  // namespace experiment::bandit
