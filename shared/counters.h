// Counter vectors: the totals of one (experiment, generation, epoch), in the one form that the zone, the snapshot and
// the fleet share.
//
// A vector is row-major: row 0 is the baseline, row 1 + a is arm a; columns are n (exposed units), then for each goal
// of the epoch in goal order c (units with a reward) and, for a value goal, S (sum, in 10^-scale) and Q (sum of squares
// of visitors' sums, in steps of max / 10^4). Totals only grow, so copies merge by max; an absent tail is zero.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "shared/runtime.h"

namespace experiment::shared {

inline constexpr int kValueColumns = 3;  // c, S, Q
// Columns of one row: 1 + 1 per conversion goal + 3 per value goal, over the first `count` goals.
int columns_of(const std::vector<GoalRecord>& goals, int count);
// First column of goal `g`.
int column_of_goal(const std::vector<GoalRecord>& goals, int g);

struct CounterKey {
  std::string experiment;
  std::uint32_t generation = 0;
  std::uint64_t epoch = 0;
  bool operator<(const CounterKey& o) const {
    return std::tie(experiment, generation, epoch) < std::tie(o.experiment, o.generation, o.epoch);
  }
  bool operator==(const CounterKey& o) const {
    return std::tie(experiment, generation, epoch) == std::tie(o.experiment, o.generation, o.epoch);
  }
};
using CounterVector = std::vector<std::uint64_t>;
using Counters = std::map<CounterKey, CounterVector>;

// "1,2,3", as files and the fleet have it; and back, nullopt for anything else.
std::string pack_vector(const CounterVector& vector);
std::optional<CounterVector> unpack_vector(std::string_view text);

// Element-wise maximum: two copies of one instance's totals. Result in `into`.
void merge_max(Counters& into, const Counters& from);
// Element-wise sum: different instances. Result in `into`.
void add(Counters& into, const Counters& from);

// JSON text with checksum, as runtime.json: vectors packed as comma-separated decimals.
std::string encode_counters(std::string_view instance, const Counters& counters);
struct DecodedCounters {
  std::string instance;
  Counters counters;
};
// Returns nullopt and says why in `error` (place, value, expectation) when the text was not written whole by
// encode_counters.
std::optional<DecodedCounters> decode_counters(std::string_view text, std::string& error);

// The totals of instances that are gone for good, in one sum. An instance that is named here is counted here and
// nowhere else.
struct FoldedCounters {
  std::set<std::string, std::less<>> instances;
  Counters counters;
};
std::string encode_folded(const FoldedCounters& folded);
std::optional<FoldedCounters> decode_folded(std::string_view text, std::string& error);

}  // namespace experiment::shared
