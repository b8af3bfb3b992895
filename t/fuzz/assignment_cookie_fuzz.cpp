// libFuzzer target: decode() of any text, and of any body that is well signed, so that the parser behind the MAC is
// reached too.
//
// Build with clang++ -fsanitize=fuzzer,address,undefined; run with t/fuzz/corpus/assignment_cookie as the corpus.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "shared/assignment_cookie.h"
#include "shared/base64url.h"

namespace {

using experiment::shared::CookieRecords;
using experiment::shared::CookieStatus;
using experiment::shared::KeyRing;

void require(bool holds) {
  if (!holds) std::abort();
}

const KeyRing& ring() {
  static const KeyRing keys = [] {
    std::string error;
    auto parsed = KeyRing::parse(std::string(64, '7'), error);
    require(parsed.has_value());
    return *parsed;
  }();
  return keys;
}

// What decodes must encode to a text that decodes to the same records; to the same text unless it held a duplicate.
CookieStatus check(std::string_view text) {
  CookieRecords records, again;
  const CookieStatus status = decode(text, ring(), records);
  if (status != CookieStatus::kOk) {
    require(records.count == 0);
    return status;
  }
  std::array<char, experiment::shared::kMaxCookieChars> out, repeated;
  const std::size_t size = encode(records, ring(), out.data());
  require(size > 0 && size <= text.size());
  require(decode({out.data(), size}, ring(), again) == CookieStatus::kOk && again.count == records.count);
  require(encode(again, ring(), repeated.data()) == size &&
          std::equal(out.begin(), out.begin() + size, repeated.begin()));
  if (size == text.size()) require(text == std::string_view(out.data(), size));
  return status;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  require(check({reinterpret_cast<const char*>(data), size}) != CookieStatus::kOk || size >= 24);

  constexpr std::size_t kMaxBody = 512;
  std::array<std::uint8_t, 2 + kMaxBody + KeyRing::kMacBytes> bytes = {1, ring().signing_id()};
  const std::size_t body = std::min(size, kMaxBody);
  std::copy_n(data, body, bytes.begin() + 2);
  ring().mac(experiment::shared::Purpose::kCookie, bytes.data(), 2 + body, bytes.data() + 2 + body);
  std::array<char, experiment::shared::base64url_length(bytes.size())> text;
  const std::size_t chars =
      experiment::shared::encode_base64url(bytes.data(), 2 + body + KeyRing::kMacBytes, text.data());
  const CookieStatus status = check({text.data(), chars});
  require(status == CookieStatus::kOk || status == CookieStatus::kMalformed || status == CookieStatus::kTooLong);
  return 0;
}
