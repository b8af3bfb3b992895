#include "shared/cohort_token.h"

#include <algorithm>
#include <array>
#include <charconv>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "shared/base64url.h"

namespace experiment::shared {
namespace {

void sort_by_key(CohortPart* parts, std::size_t count) noexcept {
  std::sort(parts, parts + count, [](const CohortPart& a, const CohortPart& b) { return a.key < b.key; });
}

struct Decimal {
  explicit Decimal(std::uint64_t value) noexcept
      : length(static_cast<std::size_t>(std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr -
                                        digits.data())) {}
  std::string_view text() const noexcept { return {digits.data(), length}; }
  std::array<char, 20> digits;
  std::size_t length;
};

// One description of each text, given to whatever takes its pieces: a counter, a buffer or a hash.
template <typename Sink>
void spell_token(const CohortPart* parts, std::size_t count, Sink& sink) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) sink.put("~");
    sink.put(parts[i].key);
    sink.put(".");
    sink.put(parts[i].variant);
    if (parts[i].revision == 1) continue;
    sink.put(".r");
    sink.put(Decimal(parts[i].revision).text());
  }
  if (count == 0) sink.put("-");
}

template <typename Sink>
void spell_assignments(const CohortPart* parts, std::size_t count, Sink& sink) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) sink.put(", ");
    sink.put(parts[i].key);
    sink.put("=");
    sink.put(parts[i].variant);
    if (parts[i].epoch != 0) {
      sink.put(";e=");
      sink.put(Decimal(parts[i].epoch).text());
    }
    if (!parts[i].reason.empty()) {
      sink.put(";r=");
      sink.put(parts[i].reason);
    }
  }
  if (count == 0) sink.put("none");
}

struct Counted {
  std::size_t bytes = 0;
  void put(std::string_view piece) noexcept { bytes += piece.size(); }
};

struct Written {
  char* out;
  void put(std::string_view piece) noexcept { out += piece.copy(out, piece.size()); }
};

struct Hashed {
  XXH3_state_t state;
  Hashed() noexcept { XXH3_128bits_reset(&state); }
  void put(std::string_view piece) noexcept { XXH3_128bits_update(&state, piece.data(), piece.size()); }
};

}  // namespace

std::size_t write_cohort_token(CohortPart* parts, std::size_t count, char* out) noexcept {
  sort_by_key(parts, count);
  Counted length;
  spell_token(parts, count, length);
  if (length.bytes <= kMaxCohortToken) {
    Written text{out};
    spell_token(parts, count, text);
    return length.bytes;
  }
  Hashed hash;
  spell_token(parts, count, hash);
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&hash.state));
  out[0] = 'h';
  out[1] = '-';
  return 2 + encode_base64url(canonical.digest, sizeof canonical.digest, out + 2);
}

std::size_t assignments_length(const CohortPart* parts, std::size_t count) noexcept {
  Counted length;
  spell_assignments(parts, count, length);
  return length.bytes;
}

std::size_t write_assignments(CohortPart* parts, std::size_t count, char* out) noexcept {
  sort_by_key(parts, count);
  Written text{out};
  spell_assignments(parts, count, text);
  return static_cast<std::size_t>(text.out - out);
}

}  // namespace experiment::shared
