// The allocation table: kSlots slots, each owned by an arm. The first table is contiguous in arm order; every later one
// is made from the one before by least movement, so that exactly the total-variation distance of the shares moves
// (architecture: the minimum that any scheme can reach) and no unit moves between two arms that neither grew nor
// shrank.
//
// Pure functions. The allocator makes tables, once per epoch; the text form is what the store and the runtime state
// carry; a request reads one byte of a table that somebody decoded before.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bandit/definition.h"

namespace experiment::bandit {

using SlotTable = std::array<std::uint8_t, kSlots>;  // arm of each slot
using Quotas = std::vector<int>;                     // slots of each arm, sum kSlots

// Slots of each arm for weights >= 0 (any scale): quotas are w_i / (w_0 + ... left to right) * 10000 in IEEE double,
// floors first, the rest by largest remainder (Hamilton's method), ties to the lower index; an arm of weight zero gets
// none. nullopt when there is no arm, when there are more than kMaxArms, when a weight is negative or not finite, or
// when the sum is zero or not finite.
std::optional<Quotas> quotas_of(const std::vector<double>& weights);
// The first table: contiguous, in arm order. Requires here and below: quotas are >= 0 and their sum is kSlots.
SlotTable contiguous_table(const Quotas& quotas);
// Least movement from `before`: arms that shrink give up their highest slots, arms that grow take the released slots in
// ascending order, in arm order. Slots of `before` owned by an arm beyond `quotas` count as released.
SlotTable moved_table(const SlotTable& before, const Quotas& quotas);
// Slots of each arm below `arms` in a table.
Quotas quotas_in(const SlotTable& table, int arms);
// Text form as runs in slot order, "arm*length" joined by commas: "0*5000,1*5000".
std::string encode_runs(const SlotTable& table);
// Reads exactly what encode_runs writes, so that equal tables have equal texts: nullopt unless the runs cover kSlots
// slots with arms below `arms`, in decimal without leading zeroes, and no run is followed by another of the same arm.
std::optional<SlotTable> decode_runs(std::string_view runs, int arms);

}  // namespace experiment::bandit
