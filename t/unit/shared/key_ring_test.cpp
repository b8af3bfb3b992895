#include "shared/key_ring.h"

#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace experiment::shared {
namespace {

const std::string kKeyA = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const std::string kKeyB = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";
const std::string kExpected = ", expected a key of 64 hex digits";
using Mac = std::array<std::uint8_t, KeyRing::kMacBytes>;

KeyRing ring_of(std::string_view text) {
  std::string error;
  auto ring = KeyRing::parse(text, error);
  if (!ring) throw std::runtime_error(error);
  return *ring;
}

std::string error_of(std::string_view text) {
  std::string error;
  EXPECT_FALSE(KeyRing::parse(text, error));
  return error;
}

const std::uint8_t* bytes(std::string_view text) {
  return reinterpret_cast<const std::uint8_t*>(text.data());
}

Mac mac_of(const KeyRing& ring, Purpose purpose, std::string_view data) {
  Mac mac;
  ring.mac(purpose, bytes(data), data.size(), mac.data());
  return mac;
}

bool verifies(const KeyRing& ring, Purpose purpose, std::uint8_t id, std::string_view data, const Mac& mac) {
  return ring.verify(purpose, id, bytes(data), data.size(), mac.data());
}

nlohmann::json vectors() {
  return nlohmann::json::parse(std::ifstream("t/vectors/cookie.json"));
}

// Distinct keys whose ids are distinct too.
std::vector<std::string> keys_of_distinct_ids(std::size_t count) {
  std::vector<std::string> keys;
  std::set<std::uint8_t> ids;
  for (int i = 10; keys.size() < count; ++i) {
    const std::string key = std::string(62, '0') + std::to_string(i);
    if (ids.insert(ring_of(key).signing_id()).second) keys.push_back(key);
  }
  return keys;
}

TEST(KeyRing, CommentsBlanksAndCaseDoNotMatter) {
  const KeyRing plain = ring_of(kKeyA + "\n" + kKeyB + "\n");
  const KeyRing dressed = ring_of("# two keys\n\n  \t" + std::string("000102030405060708090A0B0C0D0E0F") +
                                  "101112131415161718191A1B1C1D1E1F  # signs\r\n\r\n" + kKeyB);
  EXPECT_EQ(plain.size(), 2u);
  EXPECT_EQ(dressed.size(), 2u);
  EXPECT_EQ(plain.signing_id(), dressed.signing_id());
  EXPECT_EQ(plain.fingerprint(), dressed.fingerprint());
  EXPECT_EQ(mac_of(plain, Purpose::kCookie, "data"), mac_of(dressed, Purpose::kCookie, "data"));
}

TEST(KeyRing, MessagesNameLineProblemAndExpectation) {
  EXPECT_EQ(error_of(""), "no key, expected a line of 64 hex digits");
  EXPECT_EQ(error_of("# none\n\n"), "no key, expected a line of 64 hex digits");
  EXPECT_EQ(error_of("# c\n" + kKeyA.substr(1)), "line 2: 63 hex digits" + kExpected);
  EXPECT_EQ(error_of(kKeyA + "00"), "line 1: 66 hex digits" + kExpected);
  EXPECT_EQ(error_of(kKeyA + "\n\n" + kKeyB.substr(0, 63) + "g"),
            "line 3: character 64 is not a hex digit" + kExpected);
  EXPECT_EQ(error_of(kKeyA + " " + kKeyB), "line 1: character 65 is not a hex digit" + kExpected);
  EXPECT_EQ(error_of("0x" + kKeyA.substr(2)), "line 1: character 2 is not a hex digit" + kExpected);
  EXPECT_EQ(error_of(std::string_view("\0", 1)), "line 1: character 1 is not a hex digit" + kExpected);
}

TEST(KeyRing, MessagesNeverQuoteTheKey) {
  const std::string secret = kKeyB.substr(0, 60);
  for (const std::string& line : {secret, secret + "zzzz", secret + "000000", kKeyA + "\n" + kKeyA}) {
    const std::string error = error_of(line);
    for (std::size_t i = 0; i + 4 <= secret.size(); ++i) {
      EXPECT_EQ(error.find(secret.substr(i, 4)), error.npos) << error;
    }
  }
}

TEST(KeyRing, TwoKeysOfOneIdAreRefused) {
  const std::string same =
      "key id 99 is that of line 1 too, expected another key (ids are one byte; generate this key again)";
  EXPECT_EQ(error_of(kKeyA + "\n" + kKeyA), "line 2: " + same);
  int i = 0;  // another key that happens to share the id
  std::string key;
  do key = std::string(60, 'a') + std::to_string(1000 + i++);
  while (ring_of(key).signing_id() != ring_of(kKeyA).signing_id());
  EXPECT_EQ(error_of(kKeyA + "\n" + kKeyB + "\n" + key), "line 3: " + same);
}

TEST(KeyRing, HoldsEightKeys) {
  const auto keys = keys_of_distinct_ids(KeyRing::kMaxKeys + 1);
  std::string text;
  for (std::size_t i = 0; i < KeyRing::kMaxKeys; ++i) text += keys[i] + "\n";
  const KeyRing ring = ring_of(text);
  EXPECT_EQ(ring.size(), 8u);
  for (std::size_t i = 0; i < KeyRing::kMaxKeys; ++i) {
    const KeyRing alone = ring_of(keys[i]);
    EXPECT_TRUE(verifies(ring, Purpose::kCookie, alone.signing_id(), "data", mac_of(alone, Purpose::kCookie, "data")));
  }
  EXPECT_EQ(error_of(text + keys[8]), "line 9: one key too many, expected at most 8");
}

TEST(KeyRing, FirstKeySignsAllVerify) {
  const KeyRing before = ring_of(kKeyA), during = ring_of(kKeyB + "\n" + kKeyA), after = ring_of(kKeyB);
  const Mac old_mac = mac_of(before, Purpose::kCookie, "data");
  EXPECT_TRUE(verifies(during, Purpose::kCookie, before.signing_id(), "data", old_mac));
  EXPECT_EQ(during.signing_id(), after.signing_id());
  EXPECT_EQ(mac_of(during, Purpose::kCookie, "data"), mac_of(after, Purpose::kCookie, "data"));
  EXPECT_FALSE(after.has(before.signing_id()));
  EXPECT_FALSE(verifies(after, Purpose::kCookie, before.signing_id(), "data", old_mac));
}

TEST(KeyRing, AnyChangeFailsVerification) {
  const KeyRing ring = ring_of(kKeyA + "\n" + kKeyB);
  const std::uint8_t id = ring.signing_id();
  const Mac mac = mac_of(ring, Purpose::kCookie, "data");
  EXPECT_TRUE(verifies(ring, Purpose::kCookie, id, "data", mac));
  EXPECT_FALSE(verifies(ring, Purpose::kPseudonym, id, "data", mac));
  EXPECT_FALSE(verifies(ring, Purpose::kCookie, ring_of(kKeyB).signing_id(), "data", mac));
  EXPECT_FALSE(verifies(ring, Purpose::kCookie, id, "dat", mac));
  EXPECT_FALSE(verifies(ring, Purpose::kCookie, id, "Data", mac));
  for (int bit = 0; bit < 128; ++bit) {
    Mac flipped = mac;
    flipped[static_cast<std::size_t>(bit / 8)] ^= static_cast<std::uint8_t>(1 << bit % 8);
    EXPECT_FALSE(verifies(ring, Purpose::kCookie, id, "data", flipped)) << bit;
  }
}

TEST(KeyRing, IdsAndFingerprintsAgreeWithTheVectors) {
  const auto rings = vectors()["rings"];
  ASSERT_EQ(rings.size(), 3u);
  std::set<std::string> fingerprints;
  for (const auto& vector : rings) {
    std::string text;
    for (const auto& key : vector["keys"]) text += key.get<std::string>() + "\n";
    const KeyRing ring = ring_of(text);
    EXPECT_EQ(ring.signing_id(), vector["ids"][0]);
    for (const auto& id : vector["ids"]) EXPECT_TRUE(ring.has(id));
    EXPECT_EQ(ring.fingerprint(), vector["fingerprint"]);
    EXPECT_EQ(ring.key_fingerprints(), vector["key_fingerprints"].get<std::vector<std::string>>());
    fingerprints.insert(ring.fingerprint());
  }
  EXPECT_EQ(fingerprints.size(), 3u) << "the order shows too";
}

TEST(KeyRing, PseudonymsAgreeWithTheVectors) {
  const auto data = vectors();
  const KeyRing ring = ring_of(data["ring"][0].get<std::string>());
  ASSERT_EQ(data["pseudonyms"].size(), 4u);
  for (const auto& vector : data["pseudonyms"]) {
    std::string pseudonym(KeyRing::kPseudonymChars, '?');
    ring.pseudonym(vector["unit"].get<std::string>(), pseudonym.data());
    EXPECT_EQ(pseudonym, vector["pseudonym"]);
  }
}

TEST(KeyRing, GeneratedFilesParseAndDiffer) {
  const auto first = generate_key_file(), second = generate_key_file();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(ring_of(*first).size(), 1u);
  EXPECT_EQ(first->back(), '\n');
  EXPECT_NE(*first, *second);
  EXPECT_NE(ring_of(*first).fingerprint(), ring_of(*second).fingerprint());
}

}  // namespace
}  // namespace experiment::shared
