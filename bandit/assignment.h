// Who sees what: the draws of an experiment and the order of its gates.
//
// Pure functions of a unit hash; reproducible with any xxHash library (vectors in t/vectors/). Called once per
// experiment and request, so everything that can be known beforehand is in the Rule (rule.h) and the draws are inline:
// no string is hashed here but the unit id, once per request. With the length a constant, a draw is a dozen
// instructions with two multiplications.
#pragma once

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdint>
#include <string_view>

#include "bandit/rule.h"

namespace experiment::bandit {

// XXH3_64bits of the unit id: hashed once per request.
inline std::uint64_t unit_hash(std::string_view unit_id) noexcept {
  return XXH3_64bits(unit_id.data(), unit_id.size());
}

// XXH3_64bits_withSeed over the little-endian 8 bytes of unit_hash.
inline std::uint64_t draw(std::uint64_t seed, std::uint64_t unit_hash) noexcept {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  unit_hash = __builtin_bswap64(unit_hash);
#endif
  return XXH3_64bits_withSeed(&unit_hash, sizeof unit_hash, seed);
}

// draw() of many units with one seed: what depends on the seed alone is done once. XXH3 of 8 bytes is
// rrmxmx(input ^ key) (xxHash specification, "XXH3 4-8 bytes"), with the halves of the input swapped.
class Draws {
 public:
  Draws() = default;
  explicit Draws(std::uint64_t seed) noexcept
      : key_((XXH_readLE64(XXH3_kSecret + 8) ^ XXH_readLE64(XXH3_kSecret + 16)) -
             (seed ^ static_cast<std::uint64_t>(XXH_swap32(static_cast<XXH32_hash_t>(seed))) << 32)) {}
  std::uint64_t operator()(std::uint64_t unit_hash) const noexcept {
    return XXH3_rrmxmx((unit_hash << 32 | unit_hash >> 32) ^ key_, sizeof unit_hash);
  }

 private:
  std::uint64_t key_ = 0;
};

// (h * 10000) >> 64, in [0, kSlots).
inline int slot(std::uint64_t h) noexcept {
  return static_cast<int>((static_cast<unsigned __int128>(h) * kSlots) >> 64);
}

// Whether a unit falls into a share. Most shares are none or all: those cost no draw.
inline bool falls_into(const Share& share, std::uint64_t seed, std::uint64_t unit_hash) noexcept {
  if (share.none()) return false;
  return share.all() || share.below(draw(seed, unit_hash));
}

// The gates of a rule that is not open.
Reason closed_gate(const Rule& rule, std::uint64_t unit_hash) noexcept;

// The gates that are evaluated at every request and win over any memory: state, holdouts (global, then layer), layer,
// traffic. Returns kSplit when the unit may be enrolled, kConcluded when it gets the winner, kFrozen when only a pin
// may enrol it, else the reason why it is not.
inline Reason gate(const Rule& rule, std::uint64_t unit_hash) noexcept {
  return rule.open ? Reason::kSplit : closed_gate(rule, unit_hash);
}

// Whether the unit belongs to the baseline: control, outside the bandit.
inline bool in_baseline(const Rule& rule, std::uint64_t unit_hash) noexcept {
  return falls_into(rule.baseline, rule.baseline_seed, unit_hash);
}

// The unit's slot in the allocation table.
inline int arm_slot(const Rule& rule, std::uint64_t unit_hash) noexcept {
  return slot(draw(rule.arm_seed, unit_hash));
}

}  // namespace experiment::bandit
