#include "shared/cohort_token.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "shared/base64url.h"

namespace experiment::shared {
namespace {

struct Part {
  std::string key, variant;
  std::uint32_t revision = 1;
  std::uint64_t epoch = 0;
  std::string reason = {};
};

// The pieces and the parts that look at them.
struct Parts {
  explicit Parts(std::vector<Part> parts) : of(std::move(parts)) {
    pieces.reserve(2 * of.size());
    for (const Part& part : of) {
      pieces.push_back(token_piece(part.key, part.variant, part.revision));
      pieces.push_back(member_piece(part.key, part.variant));
      items.push_back({pieces[pieces.size() - 2], pieces.back(), part.epoch, part.reason});
    }
  }
  std::vector<Part> of;
  std::vector<std::string> pieces;
  std::vector<CohortPart> items;
};

std::string token(const std::vector<Part>& of) {
  Parts parts(of);
  std::string out(cohort_token_room(parts.items.data(), parts.items.size()), '\0');
  out.resize(write_cohort_token(parts.items.data(), parts.items.size(), out.data()));
  return out;
}

std::string assignments(const std::vector<Part>& of) {
  Parts parts(of);
  std::string out(assignments_room(parts.items.data(), parts.items.size()), '\0');
  out.resize(write_assignments(parts.items.data(), parts.items.size(), out.data()));
  return out;
}

// As the specification says it, over the whole text at once.
std::string hashed(const std::string& text) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(text.data(), text.size()));
  std::string out(base64url_length(sizeof canonical.digest), '\0');
  encode_base64url(canonical.digest, sizeof canonical.digest, out.data());
  return "h-" + out;
}

TEST(CohortToken, Joins) {
  EXPECT_EQ(token({}), "-");
  EXPECT_EQ(token({{"hero-image", "control"}}), "hero-image.control");
  EXPECT_EQ(token({{"checkout-button", "green"}, {"hero-image", "control"}}),
            "checkout-button.green~hero-image.control");
}

TEST(CohortToken, NamesARevisionThatIsNotTheFirst) {
  EXPECT_EQ(token({{"a", "y", 2}, {"b", "x", 1}}), "a.y.r2~b.x");
  EXPECT_EQ(token({{"a", "y", 4294967295}}), "a.y.r4294967295");
  EXPECT_EQ(token({{"a", "y", 0}}), "a.y.r0");
}

TEST(CohortToken, KnowsNothingOfEpochsAndReasons) {
  EXPECT_EQ(token({{"a", "y", 1, 42, "split"}}), "a.y");
  EXPECT_EQ(token({{"a", "y", 1, 43, "sticky"}}), "a.y");
}

TEST(CohortToken, IsHashedBeyondOneHundredBytes) {
  const std::string key(40, 'k'), variant(40, 'v');
  const std::string exact = "a." + std::string(16, 'w') + "~" + key + "." + variant;  // 100 bytes
  ASSERT_EQ(exact.size(), kMaxCohortToken);
  EXPECT_EQ(token({{"a", std::string(16, 'w')}, {key, variant}}), exact);
  const std::string longer = "a." + std::string(17, 'w') + "~" + key + "." + variant;
  EXPECT_EQ(token({{"a", std::string(17, 'w')}, {key, variant}}), hashed(longer));
  EXPECT_EQ(hashed(longer).size(), 24U);
}

// An independent implementation (python3-xxhash and base64) gave this value.
TEST(CohortToken, HashedFormIsPinned) {
  EXPECT_EQ(token({{"a", std::string(17, 'w')}, {std::string(40, 'k'), std::string(40, 'v')}}),
            "h-km7myXvKsxWY0G18DRLe0Q");
}

TEST(CohortToken, OfAnyLengthIsTheTextOrItsHash) {
  std::vector<Part> parts;
  std::string text;
  for (int i = 0; i < 300; ++i) {
    const std::string key = "e" + std::to_string(1000 + i);
    text += (parts.empty() ? "" : "~") + key + ".variant.r7";
    parts.push_back({key, "variant", 7});
    ASSERT_EQ(token(parts), text.size() > kMaxCohortToken ? hashed(text) : text) << parts.size();
  }
}

TEST(Assignments, IsADictionary) {
  EXPECT_EQ(assignments({}), "none");
  EXPECT_EQ(assignments({{"checkout-button", "green", 3, 42, "split"}, {"hero-image", "control"}}),
            "checkout-button=green;e=42;r=split, hero-image=control");
  EXPECT_EQ(assignments({{"a", "b", 1, 0, "no_memory"}}), "a=b;r=no_memory");
  EXPECT_EQ(assignments({{"a", "b", 1, (1ULL << 48) - 1, ""}}), "a=b;e=281474976710655");
}

TEST(Assignments, WritesNothingBeyondItsRoom) {
  const std::uint64_t largest = ~std::uint64_t{0};
  Parts parts({{"a", "y"}, {"b", "x", 1, largest, "variant_gone"}});
  const std::size_t room = assignments_room(parts.items.data(), parts.items.size());
  std::string out(room + 8, '#');
  EXPECT_LE(write_assignments(parts.items.data(), parts.items.size(), out.data()), room);
  EXPECT_EQ(out.substr(room), "########");
  const std::size_t token_room = cohort_token_room(parts.items.data(), parts.items.size());
  std::string cohort(token_room + 8, '#');
  EXPECT_LE(write_cohort_token(parts.items.data(), parts.items.size(), cohort.data()), token_room);
  EXPECT_EQ(cohort.substr(token_room), "########");
}

}  // namespace
}  // namespace experiment::shared
