// The two texts that name a request's assignments: the cohort token (cache key, Vary, outward ETag) and the dictionary
// for the backend.
//
// Both are canonical: the same assignments give the same bytes on every edge, in whatever order they were decided,
// since parts come in the order of their experiments' keys. What a part says is written once per document, so that a
// request copies pieces: no heap, no locks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace experiment::shared {

inline constexpr std::size_t kMaxCohortToken = 100;  // bytes

// What an arm contributes. Keys are checked by the definition ([a-z0-9-], at most 40 bytes).
std::string token_piece(std::string_view key, std::string_view variant, std::uint32_t revision);  // key.variant[.rN]
std::string member_piece(std::string_view key, std::string_view variant);                         // key=variant

// One enrolled experiment. Lists of them are in the order of distinct experiment keys.
struct CohortPart {
  std::string_view token;        // token_piece()
  std::string_view member;       // member_piece()
  std::uint64_t epoch = 0;       // 0: none; the token has no part in it
  std::string_view reason = {};  // bandit::reason_token(); empty: not told; the token has no part in it
};

// Room that write_cohort_token() needs.
std::size_t cohort_token_room(const CohortPart* parts, std::size_t count) noexcept;
// Writes the parts' tokens joined by `~`; `-` where there is no part. A text over kMaxCohortToken bytes becomes `h-`
// and the 22 base64url characters of its 128-bit XXH3 (canonical, big-endian bytes). No token without the prefix can
// look like one with it: a part has a dot. Requires: `out` has room for cohort_token_room() bytes; it gets no
// terminating NUL. Returns: the bytes of the token.
std::size_t write_cohort_token(const CohortPart* parts, std::size_t count, char* out) noexcept;

// Room that write_assignments() needs.
std::size_t assignments_room(const CohortPart* parts, std::size_t count) noexcept;
// Writes the RFC 9651 dictionary `key=variant;e=<epoch>;r=<reason>` joined by `, `; `none` where there is no part, so
// that absence means that the edge was bypassed. Values are tokens and integers of at most 15 digits, as epoch ids
// below 2^48 are. Requires: `out` has room for assignments_room() bytes. Returns: the bytes written.
std::size_t write_assignments(const CohortPart* parts, std::size_t count, char* out) noexcept;

}  // namespace experiment::shared
