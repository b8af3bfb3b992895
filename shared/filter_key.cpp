#include "shared/filter_key.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace experiment::shared {

std::uint64_t experiment_identity(std::string_view key, std::uint32_t generation) noexcept {
  return XXH3_64bits_withSeed(key.data(), key.size(), 0x100000000ULL + generation);
}

std::uint64_t epoch_identity(std::uint64_t identity, std::uint64_t epoch) noexcept {
  return XXH3_64bits_withSeed(&epoch, sizeof(epoch), identity);
}

std::uint64_t unit_event_key(std::uint64_t identity, std::uint64_t unit_hash, int goal) noexcept {
  return XXH3_64bits_withSeed(&unit_hash, sizeof(unit_hash), identity + static_cast<std::uint64_t>(goal + 1));
}

std::uint64_t reward_id_key(std::uint64_t identity, int goal, std::string_view id) noexcept {
  return XXH3_64bits_withSeed(id.data(), id.size(), ~identity - static_cast<std::uint64_t>(goal));
}

}  // namespace experiment::shared
