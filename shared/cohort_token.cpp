#include "shared/cohort_token.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "shared/base64url.h"

namespace experiment::shared {
namespace {

constexpr std::size_t kEpochRoom = 20;  // digits of any 64-bit number

char* put(char* out, std::string_view piece) noexcept {
  std::memcpy(out, piece.data(), piece.size());
  return out + piece.size();
}

}  // namespace

std::string token_piece(std::string_view key, std::string_view variant, std::uint32_t revision) {
  std::string piece(key);
  piece.append(".").append(variant);
  if (revision != 1) piece.append(".r").append(std::to_string(revision));
  return piece;
}

std::string member_piece(std::string_view key, std::string_view variant) {
  return std::string(key).append("=").append(variant);
}

std::size_t cohort_token_room(const CohortPart* parts, std::size_t count) noexcept {
  std::size_t room = count;
  for (std::size_t i = 0; i < count; ++i) room += parts[i].token.size();
  return std::max(room, kMaxCohortToken);
}

std::size_t write_cohort_token(const CohortPart* parts, std::size_t count, char* out) noexcept {
  if (count == 0) *out = '-';
  char* end = count == 0 ? out + 1 : put(out, parts[0].token);
  for (std::size_t i = 1; i < count; ++i) {
    *end = '~';
    end = put(end + 1, parts[i].token);
  }
  auto length = static_cast<std::size_t>(end - out);
  if (length <= kMaxCohortToken) return length;
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(out, length));
  return 2 + encode_base64url(canonical.digest, sizeof canonical.digest, put(out, "h-"));
}

std::size_t assignments_room(const CohortPart* parts, std::size_t count) noexcept {
  std::size_t room = 4;  // "none"
  for (std::size_t i = 0; i < count; ++i) room += parts[i].member.size() + parts[i].reason.size() + kEpochRoom + 8;
  return room;
}

std::size_t write_assignments(const CohortPart* parts, std::size_t count, char* out) noexcept {
  char* end = count == 0 ? put(out, "none") : out;
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) end = put(end, ", ");
    end = put(end, parts[i].member);
    if (parts[i].epoch != 0) {
      end = put(end, ";e=");
      end = std::to_chars(end, end + kEpochRoom, parts[i].epoch).ptr;
    }
    if (!parts[i].reason.empty()) end = put(put(end, ";r="), parts[i].reason);
  }
  return static_cast<std::size_t>(end - out);
}

}  // namespace experiment::shared
