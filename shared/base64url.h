// Base64url without padding (RFC 4648 section 5): the text form of cookies, tokens and minted unit ids.
//
// Pure functions over the caller's buffers, called on the request path: no heap, no locks. Decoding is strict: exactly
// one text stands for each byte string, so that no bit of a signed text can be changed without being noticed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace experiment::shared {

// Characters that `bytes` bytes take.
constexpr std::size_t base64url_length(std::size_t bytes) noexcept {
  return bytes / 3 * 4 + (bytes % 3 * 4 + 2) / 3;
}

// Returns: the characters written, base64url_length(n). Requires: `out` has room for them; it gets no terminating NUL.
std::size_t encode_base64url(const std::uint8_t* data, std::size_t n, char* out) noexcept;

// Returns: the bytes written, or nullopt when the text is not base64url as encode_base64url() writes it (a foreign
// character, padding, an impossible length, leftover bits that are not zero) or stands for more than `capacity` bytes.
// `out` is then unspecified.
[[nodiscard]] std::optional<std::size_t> decode_base64url(std::string_view text, std::uint8_t* out,
                                                          std::size_t capacity) noexcept;

}  // namespace experiment::shared
