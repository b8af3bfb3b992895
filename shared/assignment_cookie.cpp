#include "shared/assignment_cookie.h"

#include <optional>

#include "bandit/assignment.h"
#include "bandit/definition.h"
#include "shared/base64url.h"

namespace experiment::shared {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kHeaderBytes = 2;
constexpr std::size_t kRecordBytes = 16;
constexpr std::size_t kSumBytes = 4;
constexpr std::size_t kMaxCookieBytes = kMaxCookieChars / 4 * 3;

constexpr std::uint8_t kArmMask = 0x1f;
constexpr std::uint8_t kBaselineBit = 0x20;
constexpr std::uint8_t kReservedBit = 0x40;
constexpr std::uint8_t kSumBit = 0x80;
static_assert(bandit::kMaxArms <= kArmMask + 1);
static_assert(bandit::kMaxGoals <= 7, "one bit of the marks is the exposure");

// bandit::seed_of("", "unit_tag"), which a request must not compute again; a test holds the two together.
constexpr std::uint64_t kUnitTagSeed = 0xec84fbc71f57d39a;

void put(std::uint8_t*& at, std::uint64_t value, int bytes) noexcept {
  for (int i = 0; i < bytes; ++i) *at++ = static_cast<std::uint8_t>(value >> (8 * i));
}

std::uint64_t take(const std::uint8_t*& at, int bytes) noexcept {
  std::uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) value |= std::uint64_t{*at++} << (8 * i);
  return value;
}

bool in_range(const CookieRecord& record) noexcept {
  return record.arm < bandit::kMaxArms && record.epoch >> 48 == 0 && record.first_exposure_10min >> 24 == 0;
}

void put_record(std::uint8_t*& at, const CookieRecord& record) noexcept {
  put(at, record.experiment, 4);
  put(at, record.unit_tag, 1);
  put(at, record.arm | (record.baseline ? kBaselineBit : 0u) | (record.has_sum ? kSumBit : 0u), 1);
  put(at, record.epoch, 6);
  put(at, record.first_exposure_10min, 3);
  put(at, record.marks, 1);
  if (record.has_sum) put(at, record.sum, kSumBytes);
}

// Takes one record off the bytes [at, end). Returns: nullopt when they do not begin with one.
std::optional<CookieRecord> take_record(const std::uint8_t*& at, const std::uint8_t* end) noexcept {
  if (static_cast<std::size_t>(end - at) < kRecordBytes) return std::nullopt;
  CookieRecord record;
  record.experiment = static_cast<std::uint32_t>(take(at, 4));
  record.unit_tag = static_cast<std::uint8_t>(take(at, 1));
  const auto arm = static_cast<std::uint8_t>(take(at, 1));
  record.arm = arm & kArmMask;
  record.baseline = (arm & kBaselineBit) != 0;
  record.has_sum = (arm & kSumBit) != 0;
  record.epoch = take(at, 6);
  record.first_exposure_10min = static_cast<std::uint32_t>(take(at, 3));
  record.marks = static_cast<std::uint8_t>(take(at, 1));
  if ((arm & kReservedBit) != 0 || !in_range(record)) return std::nullopt;
  if (record.has_sum) {
    if (static_cast<std::size_t>(end - at) < kSumBytes) return std::nullopt;
    record.sum = static_cast<std::uint32_t>(take(at, kSumBytes));
  }
  return record;
}

// Returns: whether the bytes are nothing but at most kMaxCookieRecords records.
bool take_records(const std::uint8_t* at, const std::uint8_t* end, CookieRecords& out) noexcept {
  for (std::size_t seen = 0; at != end; ++seen) {
    const std::optional<CookieRecord> record = take_record(at, end);
    if (!record || seen == kMaxCookieRecords) return false;
    if (out.find(record->experiment, record->unit_tag) == nullptr) out.items[out.count++] = *record;
  }
  return true;
}

}  // namespace

const CookieRecord* CookieRecords::find(std::uint32_t experiment, std::uint8_t unit_tag) const noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    if (items[i].experiment == experiment && items[i].unit_tag == unit_tag) return &items[i];
  }
  return nullptr;
}

CookieRecord* CookieRecords::find(std::uint32_t experiment, std::uint8_t unit_tag) noexcept {
  return const_cast<CookieRecord*>(static_cast<const CookieRecords*>(this)->find(experiment, unit_tag));
}

std::string_view cookie_status_token(CookieStatus status) noexcept {
  constexpr std::string_view kTokens[] = {"ok",          "absent", "malformed", "too_long", "unknown_version",
                                          "unknown_key", "bad_mac"};
  static_assert(std::size(kTokens) == static_cast<std::size_t>(CookieStatus::kCount));
  return kTokens[static_cast<std::size_t>(status)];
}

CookieStatus decode(std::string_view text, const KeyRing& keys, CookieRecords& out) noexcept {
  out.count = 0;
  if (text.empty()) return CookieStatus::kAbsent;
  if (text.size() > kMaxCookieChars) return CookieStatus::kTooLong;
  std::array<std::uint8_t, kMaxCookieBytes> bytes;
  const std::optional<std::size_t> size = decode_base64url(text, bytes.data(), bytes.size());
  if (!size || *size < kHeaderBytes + KeyRing::kMacBytes) return CookieStatus::kMalformed;
  if (bytes[0] != kVersion) return CookieStatus::kUnknownVersion;
  if (!keys.has(bytes[1])) return CookieStatus::kUnknownKey;
  const std::uint8_t* mac = bytes.data() + (*size - KeyRing::kMacBytes);
  if (!keys.verify(Purpose::kCookie, bytes[1], bytes.data(), *size - KeyRing::kMacBytes, mac)) {
    return CookieStatus::kBadMac;
  }
  if (take_records(bytes.data() + kHeaderBytes, mac, out)) return CookieStatus::kOk;
  out.count = 0;
  return CookieStatus::kMalformed;
}

std::size_t encode(const CookieRecords& records, const KeyRing& keys, char* out) noexcept {
  if (records.count > kMaxCookieRecords) return 0;
  std::size_t size = kHeaderBytes + KeyRing::kMacBytes;
  for (std::size_t i = 0; i < records.count; ++i) {
    if (!in_range(records.items[i])) return 0;
    size += kRecordBytes + (records.items[i].has_sum ? kSumBytes : 0);
  }
  if (size > kMaxCookieBytes) return 0;
  std::array<std::uint8_t, kMaxCookieBytes> bytes;
  std::uint8_t* at = bytes.data();
  put(at, kVersion, 1);
  put(at, keys.signing_id(), 1);
  for (std::size_t i = 0; i < records.count; ++i) put_record(at, records.items[i]);
  keys.mac(Purpose::kCookie, bytes.data(), size - KeyRing::kMacBytes, at);
  return encode_base64url(bytes.data(), size, out);
}

std::uint32_t experiment_tag(std::string_view key, std::uint32_t generation) noexcept {
  return static_cast<std::uint32_t>(bandit::draw(generation, bandit::unit_hash(key)));
}

std::uint8_t unit_tag(std::uint64_t unit_hash) noexcept {
  return static_cast<std::uint8_t>(bandit::draw(kUnitTagSeed, unit_hash) >> 56);
}

}  // namespace experiment::shared
