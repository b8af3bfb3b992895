// OpenSSL 3 deprecates the low-level calls in favour of EVP, which cannot resume a saved state without allocating.
#define OPENSSL_SUPPRESS_DEPRECATED

#include "shared/hmac_sha256.h"

#include <openssl/crypto.h>

#include <array>

namespace experiment::shared {
namespace {

SHA256_CTX after_padded_key(const std::uint8_t* key, std::size_t key_bytes, std::uint8_t pad) noexcept {
  std::array<std::uint8_t, SHA256_CBLOCK> block;
  for (std::size_t i = 0; i < block.size(); ++i) block[i] = i < key_bytes ? key[i] ^ pad : pad;
  SHA256_CTX state;
  SHA256_Init(&state);
  SHA256_Update(&state, block.data(), block.size());
  OPENSSL_cleanse(block.data(), block.size());
  return state;
}

}  // namespace

HmacSha256::HmacSha256(const std::uint8_t* key, std::size_t key_bytes) noexcept
    : inner_(after_padded_key(key, key_bytes, 0x36)), outer_(after_padded_key(key, key_bytes, 0x5c)) {}

void HmacSha256::digest(const std::uint8_t* data, std::size_t n, std::string_view tail,
                        std::uint8_t* out) const noexcept {
  SHA256_CTX state = inner_;
  SHA256_Update(&state, data, n);
  SHA256_Update(&state, tail.data(), tail.size());
  std::array<std::uint8_t, kBytes> inner_digest;
  SHA256_Final(inner_digest.data(), &state);
  state = outer_;
  SHA256_Update(&state, inner_digest.data(), inner_digest.size());
  SHA256_Final(out, &state);
}

}  // namespace experiment::shared
