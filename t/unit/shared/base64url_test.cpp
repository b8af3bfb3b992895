#include "shared/base64url.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>
#include <vector>

namespace experiment::shared {
namespace {

using Bytes = std::vector<std::uint8_t>;

std::string encoded(const Bytes& bytes) {
  std::string text(base64url_length(bytes.size()), '?');
  EXPECT_EQ(encode_base64url(bytes.data(), bytes.size(), text.data()), text.size());
  return text;
}

std::optional<Bytes> decoded(std::string_view text) {
  Bytes bytes(1024);
  const auto size = decode_base64url(text, bytes.data(), bytes.size());
  if (!size) return std::nullopt;
  bytes.resize(*size);
  return bytes;
}

TEST(Base64url, Rfc4648Examples) {
  const std::pair<std::string, std::string> examples[] = {
      {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},         {"foo", "Zm9v"},
      {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, text] : examples) {
    const Bytes bytes(plain.begin(), plain.end());
    EXPECT_EQ(encoded(bytes), text);
    EXPECT_EQ(decoded(text), bytes) << text;
  }
  EXPECT_EQ(encoded({0xfb, 0xff, 0xfe}), "-__-");
}

TEST(Base64url, RoundTripsEveryLengthAndByte) {
  std::mt19937 random(1);
  for (std::size_t size = 0; size < 600; ++size) {
    Bytes bytes(size);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
    EXPECT_EQ(decoded(encoded(bytes)), bytes);
  }
}

// Of all texts of two and three characters exactly those decode that encoding can produce: one text per byte string.
TEST(Base64url, OneTextPerByteString) {
  int two = 0, three = 0;
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const std::string text = {static_cast<char>(a), static_cast<char>(b)};
      if (const auto bytes = decoded(text)) {
        ++two;
        EXPECT_EQ(encoded(*bytes), text);
      }
      three += decoded("AA" + std::string(1, static_cast<char>(a))) && b == 0;
    }
  }
  EXPECT_EQ(two, 256);
  EXPECT_EQ(three, 16);
}

TEST(Base64url, RefusesWhatItDoesNotWrite) {
  for (const char* text : {"A", "AAAAA", "Zg==", "Zg=", "Zm9v\n", " Zm9v", "Zm+v", "Zm/v", "Zh", "Zm9", "Zm9vYmF"}) {
    EXPECT_FALSE(decoded(text)) << text;
  }
  EXPECT_FALSE(decoded(std::string_view("Zm9\0", 4)));
  EXPECT_FALSE(decoded("Zm9\xff"));
}

TEST(Base64url, RefusesMoreThanTheCapacity) {
  std::array<std::uint8_t, 4> out = {9, 9, 9, 9};
  EXPECT_FALSE(decode_base64url("Zm9vYg", out.data(), 3));
  EXPECT_EQ(out[3], 9);
  EXPECT_EQ(decode_base64url("Zm9v", out.data(), 3), 3u);
  EXPECT_EQ(out[3], 9);
}

}  // namespace
}  // namespace experiment::shared
