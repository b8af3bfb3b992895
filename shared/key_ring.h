// The secret keys of an edge: the first of the key file signs, all verify, and each purpose has sub-keys of its own.
//
// Parsed from the text of `experiment_keys` (or of the generated file in the state directory) when a configuration is
// loaded; immutable afterwards, so every worker reads its copy without locks. mac(), verify() and pseudonym() run once
// or twice per request and use no heap. To rotate: append the new key on every edge, then move it to the first line,
// then drop the old one when its cookies are gone.
//
//   key id  = first byte of SHA-256(key)
//   sub-key = HMAC-SHA-256(key, "experiment " + purpose)
//   MAC     = first 16 bytes of HMAC-SHA-256(sub-key, data + purpose)          truncation: RFC 2104 section 5
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "shared/hmac_sha256.h"

namespace experiment::shared {

// What a MAC is for; one made for a purpose is worthless for another.
enum class Purpose : std::uint8_t { kCookie, kPseudonym, kCount };

class KeyRing {
 public:
  static constexpr std::size_t kMaxKeys = 8;
  static constexpr std::size_t kKeyBytes = 32;
  static constexpr std::size_t kMacBytes = 16;
  static constexpr std::size_t kPseudonymChars = 16;

  // `text` holds one key of 64 hex digits per line; a `#` begins a comment; blank lines are skipped.
  // Returns: nullopt, with line, problem and expectation in `error`, which never quotes a key.
  [[nodiscard]] static std::optional<KeyRing> parse(std::string_view text, std::string& error);

  // Signs with the first key: writes kMacBytes to `out`.
  void mac(Purpose purpose, const std::uint8_t* data, std::size_t n, std::uint8_t* out) const noexcept;
  // Returns: whether the kMacBytes at `mac` were made over `data` with the key `key_id` of this ring. Compares in
  // constant time.
  [[nodiscard]] bool verify(Purpose purpose, std::uint8_t key_id, const std::uint8_t* data, std::size_t n,
                            const std::uint8_t* mac) const noexcept;

  std::uint8_t signing_id() const noexcept { return keys_[0].id(); }
  bool has(std::uint8_t key_id) const noexcept { return find(key_id) != nullptr; }
  std::size_t size() const noexcept { return count_; }

  // Writes kPseudonymChars lower-case hex digits, no NUL: a name of the unit that is safe to log. It changes with the
  // signing key.
  void pseudonym(std::string_view unit_id, char* out) const noexcept;

  // 8 hex digits that differ where keys or their order differ: the start of SHA-256 over the SHA-256 of each key in
  // order, which says nothing about the keys. Shown per edge, so that a ring that was not rolled out everywhere is
  // seen.
  std::string fingerprint() const;
  // The same of each key alone, in order: to see which of them another ring lacks.
  std::vector<std::string> key_fingerprints() const;

 private:
  struct Key {
    std::array<std::uint8_t, HmacSha256::kBytes> digest{};                   // SHA-256 of the key
    int line = 0;                                                            // of the key file, for messages
    std::array<HmacSha256, static_cast<std::size_t>(Purpose::kCount)> macs;  // by purpose
    std::uint8_t id() const noexcept { return digest[0]; }
  };

  KeyRing() = default;
  // Adds a key of kKeyBytes. Returns: why it cannot be added, empty when it was.
  std::string add(const std::uint8_t* key, int line);
  const Key* find(std::uint8_t key_id) const noexcept;

  std::array<Key, kMaxKeys> keys_;
  std::size_t count_ = 0;
};

// The text of a key file with one fresh random key. Returns: nullopt when the system has no randomness to give.
[[nodiscard]] std::optional<std::string> generate_key_file();

}  // namespace experiment::shared
