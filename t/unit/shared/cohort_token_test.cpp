#include "shared/cohort_token.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "shared/base64url.h"

namespace experiment::shared {
namespace {

std::string token(std::vector<CohortPart> parts) {
  std::string out(kMaxCohortToken, '\0');
  out.resize(write_cohort_token(parts.data(), parts.size(), out.data()));
  return out;
}

std::string assignments(std::vector<CohortPart> parts) {
  std::string out(assignments_length(parts.data(), parts.size()), '\0');
  EXPECT_EQ(write_assignments(parts.data(), parts.size(), out.data()), out.size());
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

TEST(CohortToken, SortsAndJoins) {
  EXPECT_EQ(token({}), "-");
  EXPECT_EQ(token({{"hero-image", "control"}}), "hero-image.control");
  EXPECT_EQ(token({{"hero-image", "control"}, {"checkout-button", "green"}}),
            "checkout-button.green~hero-image.control");
}

TEST(CohortToken, NamesARevisionThatIsNotTheFirst) {
  EXPECT_EQ(token({{"b", "x", 1}, {"a", "y", 2}}), "a.y.r2~b.x");
  EXPECT_EQ(token({{"a", "y", 4294967295}}), "a.y.r4294967295");
  EXPECT_EQ(token({{"a", "y", 0}}), "a.y.r0");
}

TEST(CohortToken, KnowsNothingOfEpochsAndReasons) {
  EXPECT_EQ(token({{"a", "y", 1, 42, "split"}}), "a.y");
  EXPECT_EQ(token({{"a", "y", 1, 43, "sticky"}}), "a.y");
}

TEST(CohortToken, IsHashedBeyondOneHundredBytes) {
  const std::string key(40, 'k'), variant(40, 'v');
  EXPECT_EQ(token({{key, variant}, {"a", std::string(16, 'w')}}),
            "a." + std::string(16, 'w') + "~" + key + "." + variant);
  const std::string exact = "a." + std::string(16, 'w') + "~" + key + "." + variant;  // 100 bytes
  ASSERT_EQ(exact.size(), kMaxCohortToken);
  const std::string longer = "a." + std::string(17, 'w') + "~" + key + "." + variant;
  EXPECT_EQ(token({{key, variant}, {"a", std::string(17, 'w')}}), hashed(longer));
  EXPECT_EQ(hashed(longer).size(), 24U);
}

// An independent implementation (python3-xxhash and base64) gave this value.
TEST(CohortToken, HashedFormIsPinned) {
  EXPECT_EQ(token({{std::string(40, 'k'), std::string(40, 'v')}, {"a", std::string(17, 'w')}}),
            "h-km7myXvKsxWY0G18DRLe0Q");
}

TEST(CohortToken, OrderOfDecisionsDoesNotMatter) {
  std::mt19937_64 rng(21);
  std::vector<std::string> keys;
  for (int i = 0; i < 300; ++i) keys.push_back("experiment-" + std::to_string(i));
  for (std::size_t count : {2U, 5U, 20U, 300U}) {
    std::vector<CohortPart> parts;
    for (std::size_t i = 0; i < count; ++i)
      parts.push_back({keys[i], "b", static_cast<std::uint32_t>(1 + i % 3), i, "split"});
    const std::string expected_token = token(parts), expected_text = assignments(parts);
    for (int round = 0; round < 20; ++round) {
      std::shuffle(parts.begin(), parts.end(), rng);
      ASSERT_EQ(token(parts), expected_token);
      ASSERT_EQ(assignments(parts), expected_text);
    }
  }
}

TEST(CohortToken, StreamedHashIsTheHashOfTheText) {
  std::vector<std::string> keys;
  for (int i = 0; i < 300; ++i) keys.push_back("e" + std::to_string(1000 + i));
  std::vector<CohortPart> parts;
  std::string text;
  for (const std::string& key : keys) {
    text += (parts.empty() ? "" : "~") + key + ".variant.r7";
    parts.push_back({key, "variant", 7});
    if (text.size() > kMaxCohortToken) {
      ASSERT_EQ(token(parts), hashed(text)) << parts.size();
    } else {
      ASSERT_EQ(token(parts), text);
    }
  }
}

TEST(Assignments, IsADictionary) {
  EXPECT_EQ(assignments({}), "none");
  EXPECT_EQ(assignments({{"hero-image", "control"}, {"checkout-button", "green", 3, 42, "split"}}),
            "checkout-button=green;e=42;r=split, hero-image=control");
  EXPECT_EQ(assignments({{"a", "b", 1, 0, "no_memory"}}), "a=b;r=no_memory");
  EXPECT_EQ(assignments({{"a", "b", 1, (1ULL << 48) - 1, ""}}), "a=b;e=281474976710655");
}

TEST(Assignments, WritesNothingBeyondItsLength) {
  std::vector<CohortPart> parts{{"b", "x", 1, 7, "split"}, {"a", "y"}};
  std::string out(assignments_length(parts.data(), parts.size()) + 8, '#');
  const std::size_t n = write_assignments(parts.data(), parts.size(), out.data());
  EXPECT_EQ(out.substr(n), "########");
  std::string cohort(kMaxCohortToken, '#');
  const std::size_t m = write_cohort_token(parts.data(), parts.size(), cohort.data());
  EXPECT_EQ(cohort.find_first_not_of('#', m), std::string::npos);
}

}  // namespace
}  // namespace experiment::shared
