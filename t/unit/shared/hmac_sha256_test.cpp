#include "shared/hmac_sha256.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace experiment::shared {
namespace {

std::string hex_digest(const std::string& key, const std::string& data, std::string_view tail = {}) {
  const HmacSha256 hmac(reinterpret_cast<const std::uint8_t*>(key.data()), key.size());
  std::array<std::uint8_t, HmacSha256::kBytes> out;
  hmac.digest(reinterpret_cast<const std::uint8_t*>(data.data()), data.size(), tail, out.data());
  std::string text;
  for (const std::uint8_t byte : out) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

// RFC 4231 sections 4.2 to 4.5 (later cases have keys longer than a block).
TEST(HmacSha256, Rfc4231) {
  EXPECT_EQ(hex_digest(std::string(20, '\x0b'), "Hi There"),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(hex_digest("Jefe", "what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(hex_digest(std::string(20, '\xaa'), std::string(50, '\xdd')),
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
  std::string key;
  for (char c = 1; c <= 25; ++c) key += c;
  EXPECT_EQ(hex_digest(key, std::string(50, '\xcd')),
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
}

TEST(HmacSha256, TailContinuesTheData) {
  const std::string message(200, 'm');
  const std::string whole = hex_digest("key", message);
  for (std::size_t cut = 0; cut <= message.size(); ++cut) {
    EXPECT_EQ(hex_digest("key", message.substr(0, cut), std::string_view(message).substr(cut)), whole) << cut;
  }
}

TEST(HmacSha256, ADigestLeavesTheStateAsItWas) {
  const HmacSha256 hmac(reinterpret_cast<const std::uint8_t*>("key"), 3);
  std::array<std::uint8_t, HmacSha256::kBytes> first, second;
  hmac.digest(nullptr, 0, "same", first.data());
  hmac.digest(nullptr, 0, "other", second.data());
  EXPECT_NE(first, second);
  hmac.digest(nullptr, 0, "same", second.data());
  EXPECT_EQ(first, second);
}

}  // namespace
}  // namespace experiment::shared
