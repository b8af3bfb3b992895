// Kills as a set: which of them stand, how two copies of the set become one, and what is forgotten of it.
//
// Used by whoever reads or changes a runtime state: the leader, the join of two states, experimentctl. Pure functions
// on values; no locking.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "shared/runtime.h"

namespace experiment::shared {

// What a kill is told apart by: its id, or a hash of what it says where it was made before kills had one.
std::uint64_t identity_of(const Kill& kill);

bool any_stands(const std::vector<Kill>& kills) noexcept;
// The first that stands of those of this variant; nullptr: none does. An empty variant is the whole experiment.
const Kill* find_standing(const std::vector<Kill>& kills, std::string_view variant) noexcept;

// Marks what stands of this variant as lifted. Returns: what was lifted, as it stood.
std::vector<Kill> lift_kills(std::vector<Kill>& kills, std::string_view variant, const Lift& lift);

// The union, oldest first: what either side lifted is lifted. Returns: whether `into` changed but for its order.
bool unite_kills(std::vector<Kill>& into, const std::vector<Kill>& from);
// The same for a whole state: kills of everything and of each experiment.
bool unite_kills(Runtime& into, const Runtime& from);
bool same_kills(const std::vector<Kill>& a, const std::vector<Kill>& b);

// Forgets what was lifted 400 days ago, and of each variant all but the 50 that were lifted last. What stands stays.
void prune_lifted(std::vector<Kill>& kills, std::int64_t now_s);

}  // namespace experiment::shared
