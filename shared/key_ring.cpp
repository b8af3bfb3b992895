#include "shared/key_ring.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <algorithm>

namespace experiment::shared {
namespace {

constexpr std::string_view kPurposeNames[] = {"cookie", "pseudonym"};
static_assert(std::size(kPurposeNames) == static_cast<std::size_t>(Purpose::kCount));
constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr std::size_t kLineDigits = 2 * KeyRing::kKeyBytes;

using KeyBytes = std::array<std::uint8_t, KeyRing::kKeyBytes>;
using Digest = std::array<std::uint8_t, SHA256_DIGEST_LENGTH>;

std::string_view name(Purpose purpose) noexcept {
  return kPurposeNames[static_cast<std::size_t>(purpose)];
}

const std::uint8_t* bytes_of(std::string_view text) noexcept {
  return reinterpret_cast<const std::uint8_t*>(text.data());
}

// Writes 2 * n lower-case digits.
void write_hex(const std::uint8_t* data, std::size_t n, char* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    *out++ = kHexDigits[data[i] >> 4];
    *out++ = kHexDigits[data[i] & 15];
  }
}

std::string fingerprint_of(const std::string& digests) {
  Digest digest;
  SHA256(bytes_of(digests), digests.size(), digest.data());
  std::string text(8, '\0');
  write_hex(digest.data(), text.size() / 2, text.data());
  return text;
}

// The value of a hex digit in either case, or -1.
int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

std::string_view without_comment(std::string_view line) noexcept {
  constexpr std::string_view kBlanks = " \t\r";
  line = line.substr(0, line.find('#'));
  const std::size_t begin = line.find_first_not_of(kBlanks);
  return begin == line.npos ? std::string_view{} : line.substr(begin, line.find_last_not_of(kBlanks) + 1 - begin);
}

// Takes the next line off `text`.
std::string_view take_line(std::string_view& text) noexcept {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

// Returns: what is wrong with the digits, empty when `key` was filled.
std::string read_key(std::string_view digits, KeyBytes& key) {
  const std::string expected = ", expected a key of " + std::to_string(kLineDigits) + " hex digits";
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const int value = hex_digit(digits[i]);
    if (value < 0) return "character " + std::to_string(i + 1) + " is not a hex digit" + expected;
    if (i / 2 < key.size()) key[i / 2] = static_cast<std::uint8_t>(i % 2 == 0 ? value << 4 : key[i / 2] | value);
  }
  return digits.size() == kLineDigits ? "" : std::to_string(digits.size()) + " hex digits" + expected;
}

}  // namespace

std::string KeyRing::add(const std::uint8_t* key, int line) {
  if (count_ == kMaxKeys) return "one key too many, expected at most " + std::to_string(kMaxKeys);
  Key& added = keys_[count_];
  SHA256(key, kKeyBytes, added.digest.data());
  if (const Key* other = find(added.id())) {
    return "key id " + std::to_string(added.id()) + " is that of line " + std::to_string(other->line) +
           " too, expected another key (ids are one byte; generate this key again)";
  }
  added.line = line;
  constexpr std::string_view kPrefix = "experiment ";
  const HmacSha256 derive(key, kKeyBytes);
  for (std::size_t i = 0; i < added.macs.size(); ++i) {
    Digest sub_key;
    derive.digest(bytes_of(kPrefix), kPrefix.size(), kPurposeNames[i], sub_key.data());
    added.macs[i] = HmacSha256(sub_key.data(), sub_key.size());
    OPENSSL_cleanse(sub_key.data(), sub_key.size());
  }
  ++count_;
  return {};
}

std::optional<KeyRing> KeyRing::parse(std::string_view text, std::string& error) {
  KeyRing ring;
  for (int line = 1; !text.empty(); ++line) {
    const std::string_view digits = without_comment(take_line(text));
    if (digits.empty()) continue;
    KeyBytes key;
    std::string problem = read_key(digits, key);
    if (problem.empty()) problem = ring.add(key.data(), line);
    OPENSSL_cleanse(key.data(), key.size());
    if (!problem.empty()) {
      error = "line " + std::to_string(line) + ": " + problem;
      return std::nullopt;
    }
  }
  if (ring.count_ == 0) {
    error = "no key, expected a line of " + std::to_string(kLineDigits) + " hex digits";
    return std::nullopt;
  }
  return ring;
}

std::string KeyRing::fingerprint() const {
  std::string digests;
  for (std::size_t i = 0; i < count_; ++i) digests.append(keys_[i].digest.begin(), keys_[i].digest.end());
  return fingerprint_of(digests);
}

std::vector<std::string> KeyRing::key_fingerprints() const {
  std::vector<std::string> prints;
  for (std::size_t i = 0; i < count_; ++i)
    prints.push_back(fingerprint_of({keys_[i].digest.begin(), keys_[i].digest.end()}));
  return prints;
}

const KeyRing::Key* KeyRing::find(std::uint8_t key_id) const noexcept {
  for (std::size_t i = 0; i < count_; ++i) {
    if (keys_[i].id() == key_id) return &keys_[i];
  }
  return nullptr;
}

void KeyRing::mac(Purpose purpose, const std::uint8_t* data, std::size_t n, std::uint8_t* out) const noexcept {
  Digest digest;
  keys_[0].macs[static_cast<std::size_t>(purpose)].digest(data, n, name(purpose), digest.data());
  std::copy_n(digest.begin(), kMacBytes, out);
}

bool KeyRing::verify(Purpose purpose, std::uint8_t key_id, const std::uint8_t* data, std::size_t n,
                     const std::uint8_t* mac) const noexcept {
  const Key* key = find(key_id);
  if (key == nullptr) return false;
  Digest digest;
  key->macs[static_cast<std::size_t>(purpose)].digest(data, n, name(purpose), digest.data());
  return CRYPTO_memcmp(digest.data(), mac, kMacBytes) == 0;
}

void KeyRing::pseudonym(std::string_view unit_id, char* out) const noexcept {
  std::uint8_t bytes[kMacBytes];
  mac(Purpose::kPseudonym, bytes_of(unit_id), unit_id.size(), bytes);
  write_hex(bytes, kPseudonymChars / 2, out);
}

std::optional<std::string> generate_key_file() {
  KeyBytes key;
  if (RAND_bytes(key.data(), static_cast<int>(key.size())) != 1) return std::nullopt;
  std::string digits(kLineDigits, '\0');
  write_hex(key.data(), key.size(), digits.data());
  OPENSSL_cleanse(key.data(), key.size());
  return "# Keys of the experiment engine: secret, one per line. The first signs, all verify.\n"
         "# To rotate, append a new key on every edge, then move it to the first line, then drop the old one.\n" +
         digits + "\n";
}

}  // namespace experiment::shared
