#include "shared/checked_json.h"

#include <limits>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace experiment::shared {
namespace {

using nlohmann::json;

constexpr std::string_view kBeforeChecksum = R"({"format":1,"checksum":")";
constexpr std::string_view kBeforeState = R"(","state":)";
constexpr std::string_view kEnd = "}\n";
constexpr std::size_t kChecksumDigits = 16;
constexpr std::size_t kStateOffset = kBeforeChecksum.size() + kChecksumDigits + kBeforeState.size();
constexpr std::size_t kShownBytes = 60;  // of a value in an error

std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

void append_hex(std::string& out, std::uint64_t value) {
  for (int shift = 60; shift >= 0; shift -= 4) out += "0123456789abcdef"[(value >> shift) & 15];
}

}  // namespace

std::string hex_text(std::uint64_t value) {
  std::string out;
  append_hex(out, value);
  return out;
}

std::uint64_t hash_text(std::string_view text) {
  return XXH3_64bits(text.data(), text.size());
}

std::string digest_text(std::string_view text) {
  const XXH128_hash_t digest = XXH3_128bits(text.data(), text.size());
  return hex_text(digest.high64) + hex_text(digest.low64);
}

std::string seal_state(const json& state) {
  const std::string text = dump(state);
  std::string out;
  out.reserve(kStateOffset + text.size() + kEnd.size());
  out.append(kBeforeChecksum).append(hex_text(hash_text(text))).append(kBeforeState).append(text).append(kEnd);
  return out;
}

std::optional<json> open_state(std::string_view text, std::string& error) {
  if (text.size() < kStateOffset + kEnd.size()) {
    error = "cut short: " + std::to_string(text.size()) + " bytes";
    return std::nullopt;
  }
  if (text.substr(0, kBeforeChecksum.size()) != kBeforeChecksum) {
    error = "begins with another text, expected " + std::string(kBeforeChecksum);
    return std::nullopt;
  }
  const std::string_view checksum = text.substr(kBeforeChecksum.size(), kChecksumDigits);
  const std::string_view state = text.substr(kStateOffset, text.size() - kStateOffset - kEnd.size());
  const bool framed = text.substr(kStateOffset - kBeforeState.size(), kBeforeState.size()) == kBeforeState &&
                      text.substr(text.size() - kEnd.size()) == kEnd;
  const std::string actual = hex_text(hash_text(state));
  if (!framed || checksum != actual) {
    error = "damaged or edited: " + std::to_string(text.size()) + " bytes with checksum " + actual;
    error += framed ? ", expected the one in the file" : ", expected a closing brace and a newline around the state";
    return std::nullopt;
  }
  json value = json::parse(state, nullptr, false);
  if (value.is_discarded()) {
    error = "the state is no JSON";
    return std::nullopt;
  }
  return value;
}

void StateValue::expect_array() const {
  if (!value_->is_array()) refuse("an array");
}

void StateValue::expect_object() const {
  if (!value_->is_object()) refuse("an object");
}

void StateValue::expect_members(std::initializer_list<const char*> names,
                                std::initializer_list<const char*> others) const {
  expect_object();
  std::string expected;
  std::size_t known = 0;
  bool whole = true;
  for (const char* name : names) {
    const bool here = value_->contains(name);
    whole = whole && here;
    known += here ? 1 : 0;
    expected.append(expected.empty() ? "exactly the members " : ", ").append(name);
  }
  for (const char* name : others) {
    known += value_->contains(name) ? 1 : 0;
    expected.append(name == *others.begin() ? ", perhaps " : ", ").append(name);
  }
  if (!whole || known != value_->size()) refuse(expected);
}

std::optional<StateValue> StateValue::find(const char* name) const& {
  expect_object();
  const auto member = value_->find(name);
  if (member == value_->end()) return std::nullopt;
  return StateValue(*member, this, name, 0);
}

StateValue StateValue::at(const char* name) const& {
  expect_object();
  const auto member = value_->find(name);
  if (member == value_->end()) refuse(std::string("a member ") + name);
  return StateValue(*member, this, name, 0);
}

std::uint64_t StateValue::number(std::uint64_t max) const {
  if (value_->is_number_unsigned()) {
    const auto number = value_->get<std::uint64_t>();
    if (number <= max) return number;
  }
  refuse("an integer from 0 to " + std::to_string(max));
}

std::int64_t StateValue::time() const {
  return static_cast<std::int64_t>(number(std::numeric_limits<std::int64_t>::max()));
}

std::uint64_t StateValue::hex() const {
  const std::string& digits = text();
  std::uint64_t value = 0;
  for (const char c : digits) {
    const std::size_t digit = std::string_view("0123456789abcdef").find(c);
    if (digit == std::string_view::npos) refuse("16 hex digits");
    value = value << 4 | digit;
  }
  if (digits.size() != 16) refuse("16 hex digits");
  return value;
}

bool StateValue::flag() const {
  if (!value_->is_boolean()) refuse("true or false");
  return value_->get<bool>();
}

const std::string& StateValue::text() const {
  if (!value_->is_string()) refuse("a string");
  return value_->get_ref<const std::string&>();
}

std::string StateValue::path() const {
  if (parent_ == nullptr) return "";
  return parent_->path() + "/" + (name_.empty() ? std::to_string(index_) : std::string(name_));
}

void StateValue::refuse(std::string_view expected) const {
  std::string shown = dump(*value_);
  if (shown.size() > kShownBytes) shown.replace(kShownBytes, shown.npos, "...");
  const std::string place = path();
  throw StateError{"at " + (place.empty() ? "/" : place) + ": " + shown + ", expected " + std::string(expected)};
}

}  // namespace experiment::shared
