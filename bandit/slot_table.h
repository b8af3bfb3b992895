// The allocation table: kSlots slots, each owned by an arm. The first table is contiguous in arm order; every later one is made
// from the one before by least movement, so that exactly the total-variation distance of the shares moves (architecture: the
// minimum that any scheme can reach) and no unit moves between two arms that neither grew nor shrank.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>
#include <optional>

#include "bandit/definition.h"

namespace experiment::bandit {

using SlotTable = std::array<std::uint8_t, kSlots>;  // arm of each slot
using Quotas = std::vector<int>;                     // slots of each arm, sum kSlots

// Slots of each arm for weights >= 0 (any scale): quotas are w_i / (w_0 + ... left to right) * 10000 in IEEE double, floors first, the
// rest by largest remainder, ties to the lower index. All weights zero or not finite: nullopt.
std::optional<Quotas> quotas_of(const std::vector<double>& weights);
// The first table: contiguous, in arm order.
SlotTable contiguous_table(const Quotas& quotas);
// Least movement from `before`: arms that shrink give up their highest slots, arms that grow take the released slots in ascending order, in
// arm order. Slots of `before` owned by an arm beyond `quotas` count as released.
SlotTable moved_table(const SlotTable& before, const Quotas& quotas);
Quotas quotas_in(const SlotTable& table, int arms);
// Text form as runs in slot order, "arm*length" joined by commas: "0*5000,1*5000".
std::string encode_runs(const SlotTable& table);
// nullopt unless the runs cover exactly kSlots slots with arms below `arms`.
std::optional<SlotTable> decode_runs(std::string_view runs, int arms);

}  // namespace experiment::bandit
