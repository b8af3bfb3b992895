// The assignment cookie: what a browser remembers of its experiments, signed so that it cannot be made up.
//
// Decoded once per request that carries one, encoded when its content has changed; both work in the caller's buffers,
// without heap or locks. A cookie is verified before its records are read, and whatever is wrong with it leaves no
// records.
//
//   base64url( version 1 | key id 1 | records | MAC 16 over all before it, purpose `cookie` )
//   record: experiment 4 | unit tag 1 | arm 1 | epoch 6 | first exposure 3 | marks 1 [ | running sum 4 ] little endian
//   arm byte: bits 0..4 arm number, bit 5 baseline, bit 6 zero, bit 7 a running sum follows
//   marks: bit 0 exposed, bit 1 + g goal g reached
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "shared/key_ring.h"

namespace experiment::shared {

inline constexpr std::size_t kMaxCookieRecords = 20;
inline constexpr std::size_t kMaxCookieChars = 512;  // 20 records of which 11 have a running sum, or 18 with sums
inline constexpr std::uint8_t kMarkExposed = 1;
constexpr std::uint8_t mark_of_goal(int goal) noexcept {
  return static_cast<std::uint8_t>(2u << goal);
}

// A unix time as a record's first exposure.
constexpr std::uint32_t ten_minutes(std::int64_t unix_s) noexcept {
  return static_cast<std::uint32_t>(unix_s / 600) & 0xffffff;
}

struct CookieRecord {
  std::uint32_t experiment = 0;  // experiment_tag()
  std::uint8_t unit_tag = 0;     // unit_tag() of the unit that was assigned
  std::uint8_t arm = 0;          // below bandit::kMaxArms
  bool baseline = false;
  bool has_sum = false;
  std::uint64_t epoch = 0;                 // below 2^48
  std::uint32_t first_exposure_10min = 0;  // unix time / 600 s, below 2^24
  std::uint8_t marks = 0;                  // kMarkExposed, mark_of_goal()
  std::uint32_t sum = 0;                   // the visitor's total so far, in 10^-scale; 0 without has_sum
};

struct CookieRecords {
  std::array<CookieRecord, kMaxCookieRecords> items;
  std::uint8_t count = 0;

  // Returns: the record of this experiment that belongs to this unit, or nullptr.
  const CookieRecord* find(std::uint32_t experiment, std::uint8_t unit_tag) const noexcept;
  CookieRecord* find(std::uint32_t experiment, std::uint8_t unit_tag) noexcept;
};
static_assert(std::is_trivially_destructible_v<CookieRecords>, "lives in request pools");

enum class CookieStatus : std::uint8_t {
  kOk,
  kAbsent,     // empty text
  kMalformed,  // not base64url, too short, or a record that no version 1 writes
  kTooLong,
  kUnknownVersion,
  kUnknownKey,  // signed by a key that is not, or no longer, in the ring
  kBadMac,
  kCount
};
// Token of a status, lower case with underscores, e.g. "bad_mac".
std::string_view cookie_status_token(CookieStatus status) noexcept;

// Fills `out` with the cookie's records; all units' and all experiments', in their order. Of two records of one
// experiment and unit the first counts. `out` is empty unless kOk is returned.
[[nodiscard]] CookieStatus decode(std::string_view text, const KeyRing& keys, CookieRecords& out) noexcept;

// Writes the cookie's text, without NUL, signed with the first key. Requires: `out` has room for kMaxCookieChars.
// Returns: the characters written, or 0 when they would exceed kMaxCookieChars or a field is out of its range.
[[nodiscard]] std::size_t encode(const CookieRecords& records, const KeyRing& keys, char* out) noexcept;

// The low 32 bits of XXH3_64bits_withSeed(little-endian 8 bytes of XXH3_64bits(key), generation): names an experiment's
// generation. A new generation forgets old records. Hashed twice, for with a seed alone keys of three bytes meet each
// other's generations.
std::uint32_t experiment_tag(std::string_view key, std::uint32_t generation) noexcept;
// The top byte of the unit's draw of purpose "unit_tag" with an empty salt: independent of every draw that assigns.
std::uint8_t unit_tag(std::uint64_t unit_hash) noexcept;

}  // namespace experiment::shared
