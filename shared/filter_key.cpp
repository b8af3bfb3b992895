#include "shared/filter_key.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace experiment::shared {
namespace {

// Hashed before it is seeded: XXH3 only adds the seed to a text of a few bytes, so that "7" with one seed would meet
// "6" with the next.
std::uint64_t seeded(std::string_view text, std::uint64_t seed) noexcept {
  std::uint64_t hash = XXH3_64bits(text.data(), text.size());
  return XXH3_64bits_withSeed(&hash, sizeof(hash), seed);
}

}  // namespace

std::uint64_t experiment_identity(std::string_view key, std::uint32_t generation) noexcept {
  return seeded(key, 0x100000000ULL + generation);
}

std::uint64_t epoch_identity(std::uint64_t identity, std::uint64_t epoch) noexcept {
  return XXH3_64bits_withSeed(&epoch, sizeof(epoch), identity);
}

std::uint64_t unit_event_key(std::uint64_t identity, std::uint64_t unit_hash, int goal) noexcept {
  return XXH3_64bits_withSeed(&unit_hash, sizeof(unit_hash), identity + static_cast<std::uint64_t>(goal + 1));
}

std::uint64_t reward_id_key(std::uint64_t identity, int goal, std::string_view id) noexcept {
  return seeded(id, ~identity - static_cast<std::uint64_t>(goal));
}

}  // namespace experiment::shared
