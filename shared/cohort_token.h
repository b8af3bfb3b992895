// The two texts that name a request's assignments: the cohort token (cache key, Vary, outward ETag) and the dictionary
// for the backend.
//
// Both are canonical: the same assignments give the same bytes on every edge, in whatever order they were decided,
// since parts are sorted by experiment key. Called on the request path with the parts on the caller's stack: no heap,
// no locks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace experiment::shared {

inline constexpr std::size_t kMaxCohortToken = 100;  // bytes

// One enrolled experiment. Keys are checked by the definition ([a-z0-9-], at most 40 bytes) and distinct within one
// list.
struct CohortPart {
  std::string_view key;
  std::string_view variant;
  std::uint32_t revision = 1;
  std::uint64_t epoch = 0;       // 0: none; the token has no part in it
  std::string_view reason = {};  // bandit::reason_token(); empty: not told; the token has no part in it
};

// Writes `key.variant` for each part, `.rN` behind it where the revision is not 1, joined by `~`; `-` where there is no
// part. A text over kMaxCohortToken bytes becomes `h-` and the 22 base64url characters of its 128-bit XXH3 (canonical,
// big-endian bytes). No token without the prefix can look like one with it: a part has a dot. Sorts the parts.
// Requires: `out` has room for kMaxCohortToken bytes; it gets no terminating NUL. Returns: the bytes written.
std::size_t write_cohort_token(CohortPart* parts, std::size_t count, char* out) noexcept;

// Bytes of the dictionary of these parts.
std::size_t assignments_length(const CohortPart* parts, std::size_t count) noexcept;
// Writes the RFC 9651 dictionary `key=variant;e=<epoch>;r=<reason>` joined by `, `; `none` where there is no part, so
// that absence means that the edge was bypassed. Values are tokens and integers of at most 15 digits, as epoch ids
// below 2^48 are. Sorts the parts. Requires: `out` has room for assignments_length() bytes. Returns: the bytes written.
std::size_t write_assignments(CohortPart* parts, std::size_t count, char* out) noexcept;

}  // namespace experiment::shared
