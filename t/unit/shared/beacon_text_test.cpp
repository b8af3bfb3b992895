#include "shared/beacon_text.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace experiment::shared {
namespace {

using nlohmann::json;

struct Told {
  bool good = false;
  std::vector<std::string> events;  // "goal|value|id", or "invalid"
  bool operator==(const Told& other) const { return good == other.good && events == other.events; }
};
std::ostream& operator<<(std::ostream& out, const Told& told) {
  out << (told.good ? "good" : "bad");
  for (const auto& event : told.events) out << " [" << event << "]";
  return out;
}

Told told(std::string text) {
  std::size_t n = text.size();
  BeaconEvents events;
  Told result;
  result.good = read_beacon(text.data(), n, events);
  for (int i = 0; result.good && i < events.count; ++i) {
    const auto& e = events.items[static_cast<std::size_t>(i)];
    result.events.push_back(e.valid ? std::string(e.goal) + "|" + std::string(e.value) + "|" + std::string(e.id)
                                    : "invalid");
  }
  return result;
}

// The same by a JSON library.
std::string reference_event(const json& event) {
  if (!event.is_object()) return "invalid";
  auto goal = event.find("goal"), value = event.find("value"), id = event.find("id");
  if (goal == event.end() || !goal->is_string()) return "invalid";
  std::string amount, name;
  if (value != event.end()) {
    char room[64];
    if (value->is_string()) amount = *value;
    if (value->is_number_float()) amount.assign(room, std::to_chars(room, room + 64, value->get<double>()).ptr);
    if (value->is_number_unsigned()) amount = std::to_string(value->get<std::uint64_t>());
    if (amount.empty()) return "invalid";
  }
  if (id != event.end()) {
    if (!id->is_string()) return "invalid";
    name = *id;
    if (name.size() > 128) return "invalid";
  }
  return goal->get<std::string>() + "|" + amount + "|" + name;
}

Told reference(const std::string& text) {
  json parsed = json::parse(text, nullptr, false);
  if (parsed.is_discarded()) return {};
  if (!parsed.is_array()) parsed = json::array({parsed});
  if (parsed.size() > 20) return {};
  Told result{true, {}};
  for (const auto& event : parsed) result.events.push_back(reference_event(event));
  return result;
}

const std::vector<std::string> kTexts = {
    R"({"goal":"purchase","value":19.99,"id":"o-1"})",
    R"( [ {"goal":"purchase"} , {"goal":"revenue","value":"19.99"} ] )",
    R"({"goal":"a","goal":7})",
    R"({"goal":7,"goal":"a"})",
    R"({"g\u006fal":"\ud83d\ude00 \u00e9\u20ac\n\"\\\/\b\f\r\t"})",
    R"({"goal":"a","other":{"goal":[1,-2.5e3,true,false,null,{}],"":[]}})",
    R"({"goal":"a","value":0})",
    R"({"goal":"a","value":-0})",
    R"({"goal":"a","value":-1})",
    R"({"goal":"a","value":-1.5})",
    R"({"goal":"a","value":18446744073709551615})",
    R"({"goal":"a","value":0.10})",
    R"({"goal":"a","value":1e2})",
    R"({"goal":"a","value":1E-999})",
    R"({"goal":"a","value":1e999})",
    R"({"goal":"a","value":01})",
    R"({"goal":"a","value":1.})",
    R"({"goal":"a","value":.5})",
    R"({"goal":"a","value":+1})",
    R"({"goal":"a","value":1e})",
    R"({"goal":"a","value":null})",
    R"({"goal":"a","value":""})",
    R"({"goal":"a","id":7})",
    R"({"goal":"a",})",
    R"([{"goal":"a"},])",
    R"(["\ud800"])",
    R"(["\udc00\ud800"])",
    R"(["\ud800\u0041"])",
    R"(["\u12g4"])",
    R"(["\x"])",
    "[\"\x1f\"]",
    "[\"\xc0\x80\"]",
    "[\"\xed\xa0\x80\"]",
    "[\"\xf4\x90\x80\x80\"]",
    "[\"\xf0\x90\x80\x80\xe2\x82\xac\xc3\xa9\"]",
    "\xef\xbb\xbf{}",
    "7",
    "tru",
    "\"a\" 1",
    "[]",
    "{}",
    "",
    " ",
    "[1 2]",
    "{\"a\" 1}",
    "{a:1}",
    "[[[[]]]]",
};

// A library makes a float of a whole number over 64 bits, and writes exponents in one way.
bool says_numbers_otherwise(const std::string& text) {
  std::size_t digits = 0;
  for (char c : text) {
    if (digits > 0 && (c == 'e' || c == 'E')) return true;
    digits = c >= '0' && c <= '9' ? digits + 1 : c == '.' ? digits : 0;
    if (digits > 19) return true;
  }
  return false;
}

TEST(BeaconText, SaysWhatALibrarySays) {
  for (const std::string& text : kTexts) EXPECT_EQ(told(text), reference(text)) << text;
}

TEST(BeaconText, SaysWhatALibrarySaysOfDamagedTexts) {
  std::mt19937 random(7);
  const std::string bytes = "{}[]\",:\\u0123456789abcdeE+-. tfn\x80\xc3\xe2\x1f";
  int good = 0;
  for (int i = 0; i < 50'000; ++i) {
    std::string text = kTexts[random() % kTexts.size()];
    for (unsigned edits = 1 + random() % 3; edits > 0 && !text.empty(); --edits) {
      std::size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = bytes[random() % bytes.size()];
          break;
        case 1:
          text.erase(at, 1);
          break;
        default:
          text.insert(at, 1, bytes[random() % bytes.size()]);
      }
    }
    Told expected = reference(text);
    good += expected.good;
    if (says_numbers_otherwise(text)) {
      ASSERT_EQ(told(text).good, expected.good) << text;
    } else {
      ASSERT_EQ(told(text), expected) << text;
    }
  }
  EXPECT_GT(good, 5'000);
}

TEST(BeaconText, RefusesBytesOfZero) {
  EXPECT_FALSE(told(std::string("{}\0", 3)).good);
  EXPECT_FALSE(told(std::string("[\"\0\"]", 5)).good);
  EXPECT_FALSE(told(std::string("[\"\xf0\x90\0\x80\"]", 8)).good);
}

TEST(BeaconText, KeepsItsLimits) {
  auto array = [](std::size_t n, const std::string& of) {
    std::string text = "[";
    for (std::size_t i = 0; i < n; ++i) text += (i == 0 ? "" : ",") + of;
    return text + "]";
  };
  EXPECT_EQ(told(array(20, R"({"goal":"a"})")).events.size(), 20u);
  EXPECT_FALSE(told(array(21, R"({"goal":"a"})")).good);
  EXPECT_FALSE(told(array(2000, "1")).good);
  EXPECT_TRUE(told(std::string(32, '[') + std::string(32, ']')).good);
  EXPECT_FALSE(told(std::string(33, '[') + std::string(33, ']')).good);
  EXPECT_FALSE(told(std::string(4000, '[')).good);
  EXPECT_EQ(told(R"({"goal":"a","id":")" + std::string(128, 'x') + "\"}").events[0].size(), 131u);
  EXPECT_EQ(told(R"({"goal":"a","id":")" + std::string(129, 'x') + "\"}").events[0], "invalid");
}

}  // namespace
}  // namespace experiment::shared
