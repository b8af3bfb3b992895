#include "shared/base64url.h"

#include <array>

namespace experiment::shared {
namespace {

constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr std::uint32_t kForeign = 0xff;  // above every digit, so that one test covers a group of four

constexpr std::array<std::uint8_t, 256> make_digits() {
  std::array<std::uint8_t, 256> digits{};
  for (auto& digit : digits) digit = kForeign;
  for (std::uint8_t i = 0; i < 64; ++i) digits[static_cast<unsigned char>(kAlphabet[i])] = i;
  return digits;
}
constexpr std::array<std::uint8_t, 256> kDigits = make_digits();

std::uint32_t digit(char c) noexcept {
  return kDigits[static_cast<unsigned char>(c)];
}

}  // namespace

std::size_t encode_base64url(const std::uint8_t* data, std::size_t n, char* out) noexcept {
  char* at = out;
  for (; n >= 3; data += 3, n -= 3) {
    const std::uint32_t group = std::uint32_t{data[0]} << 16 | std::uint32_t{data[1]} << 8 | data[2];
    *at++ = kAlphabet[group >> 18];
    *at++ = kAlphabet[group >> 12 & 63];
    *at++ = kAlphabet[group >> 6 & 63];
    *at++ = kAlphabet[group & 63];
  }
  if (n > 0) {
    const std::uint32_t group = std::uint32_t{data[0]} << 16 | (n > 1 ? std::uint32_t{data[1]} << 8 : 0);
    *at++ = kAlphabet[group >> 18];
    *at++ = kAlphabet[group >> 12 & 63];
    if (n > 1) *at++ = kAlphabet[group >> 6 & 63];
  }
  return static_cast<std::size_t>(at - out);
}

std::optional<std::size_t> decode_base64url(std::string_view text, std::uint8_t* out, std::size_t capacity) noexcept {
  const std::size_t left = text.size() % 4;
  const std::size_t size = text.size() / 4 * 3 + (left > 1 ? left - 1 : 0);
  if (left == 1 || size > capacity) return std::nullopt;
  const char* at = text.data();
  for (const char* end = at + (text.size() - left); at != end; at += 4) {
    const std::uint32_t a = digit(at[0]), b = digit(at[1]), c = digit(at[2]), d = digit(at[3]);
    if ((a | b | c | d) > 63) return std::nullopt;
    const std::uint32_t group = a << 18 | b << 12 | c << 6 | d;
    *out++ = static_cast<std::uint8_t>(group >> 16);
    *out++ = static_cast<std::uint8_t>(group >> 8);
    *out++ = static_cast<std::uint8_t>(group);
  }
  if (left > 0) {
    const std::uint32_t a = digit(at[0]), b = digit(at[1]), c = left > 2 ? digit(at[2]) : 0;
    const std::uint32_t group = a << 18 | b << 12 | c << 6;
    const std::uint32_t unused = left > 2 ? 0xff : 0xffff;
    if ((a | b | c) > 63 || (group & unused) != 0) return std::nullopt;
    *out++ = static_cast<std::uint8_t>(group >> 16);
    if (left > 2) *out++ = static_cast<std::uint8_t>(group >> 8);
  }
  return size;
}

}  // namespace experiment::shared
