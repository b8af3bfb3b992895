// Keys of the rotating filter: 64-bit hashes of what must count once. Never of a unit's id itself, only of its hash.
#pragma once

#include <cstdint>
#include <string_view>

namespace experiment::shared {

// Names an experiment's generation.
std::uint64_t experiment_identity(std::string_view key, std::uint32_t generation) noexcept;
// An exposure (goal -1), or goal `goal` reached, by a unit in an experiment.
std::uint64_t unit_event_key(std::uint64_t identity, std::uint64_t unit_hash, int goal) noexcept;
// Names an epoch of it, for units that nothing remembers: whatever table is in use says their arm, so each epoch counts
// them afresh. Keys without the epoch would credit a new epoch with rewards of units that it never counted.
std::uint64_t epoch_identity(std::uint64_t identity, std::uint64_t epoch) noexcept;
// A reward id, such as an order number, of a goal in an experiment.
std::uint64_t reward_id_key(std::uint64_t identity, int goal, std::string_view id) noexcept;

}  // namespace experiment::shared
