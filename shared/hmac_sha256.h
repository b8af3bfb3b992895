// HMAC-SHA-256 under one key, prepared once and used often.
//
// H((K ^ opad) + H((K ^ ipad) + message)) (Krawczyk, Bellare, Canetti 1997, RFC 2104 section 2). The states after the
// two padded key blocks are kept, so that a digest costs no more than compressing the message; OpenSSL's one-shot call
// and its EVP_MAC allocate each time. Made at configuration load by KeyRing, immutable afterwards, so it needs no lock.
// Whoever can read it can sign.
#pragma once

#include <openssl/sha.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace experiment::shared {

class HmacSha256 {
 public:
  static constexpr std::size_t kBytes = SHA256_DIGEST_LENGTH;

  // Without a key: must be assigned before use.
  HmacSha256() = default;
  // Requires: key_bytes <= 64, one block of SHA-256 (a longer key would have to be hashed first).
  HmacSha256(const std::uint8_t* key, std::size_t key_bytes) noexcept;

  // Writes the kBytes of the MAC over `data` followed by `tail`, which spares callers a copy. No heap.
  void digest(const std::uint8_t* data, std::size_t n, std::string_view tail, std::uint8_t* out) const noexcept;

 private:
  SHA256_CTX inner_{};
  SHA256_CTX outer_{};
};

}  // namespace experiment::shared
