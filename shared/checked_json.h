// The envelope of everything that the store writes: one JSON object whose checksum covers the bytes of its state.
//
//   {"format":1,"checksum":"<16 hex digits: XXH3_64bits of the state's text>","state":{...}}<newline>
//
// A file that was cut, extended or flipped anywhere is refused before its JSON is looked at. Codecs (runtime, counters,
// the store's own files) build the state with nlohmann JSON and read it back through StateValue, which names path,
// value and expectation of what is wrong. Values and functions only: no locking, no I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace experiment::shared {

// Text of a state in its envelope. Bytes of strings that are no UTF-8 become U+FFFD.
std::string seal_state(const nlohmann::json& state);
// The state of a text made by seal_state, or nullopt and in `error` what was found and expected.
std::optional<nlohmann::json> open_state(std::string_view text, std::string& error);

// XXH3_64bits of the text; its XXH3_128bits as 32 lower-case hex digits.
std::uint64_t hash_text(std::string_view text);
std::string digest_text(std::string_view text);
// 64 bits as 16 lower-case hex digits: JSON numbers beyond 2^53 do not survive every reader.
std::string hex_text(std::uint64_t value);

// Thrown by StateValue, caught by the decode_ function that started the reading.
struct StateError {
  std::string text;  // "at /experiments/a/arms: 7, expected an array"
};

// A value of a state and its place in it. A value refers to the one that it came from, so it is taken from named values
// only.
class StateValue {
 public:
  explicit StateValue(const nlohmann::json& value) : value_(&value) {}

  // Refuses anything but an object with exactly these members, and perhaps some of the others.
  void expect_members(std::initializer_list<const char*> names, std::initializer_list<const char*> others = {}) const;
  StateValue at(const char* name) const&;
  StateValue at(const char* name) const&& = delete;
  std::optional<StateValue> find(const char* name) const&;  // nullopt: there is none
  std::optional<StateValue> find(const char* name) const&& = delete;

  std::uint64_t number(std::uint64_t max) const;  // an integer in [0, max]
  std::int64_t time() const;                      // unix time in any unit, not negative
  std::uint64_t hex() const;                      // the reverse of hex_text
  bool flag() const;
  const std::string& text() const;

  template <typename Function>  // function(value)
  void each_item(Function function) const& {
    expect_array();
    for (std::size_t i = 0; i < value_->size(); ++i) function(StateValue((*value_)[i], this, {}, i));
  }
  template <typename Function>  // function(name, value)
  void each_member(Function function) const& {
    expect_object();
    for (auto member = value_->begin(); member != value_->end(); ++member) {
      function(member.key(), StateValue(member.value(), this, member.key(), 0));
    }
  }

  [[noreturn]] void refuse(std::string_view expected) const;

 private:
  StateValue(const nlohmann::json& value, const StateValue* parent, std::string_view name, std::size_t index)
      : value_(&value), parent_(parent), name_(name), index_(index) {}
  void expect_array() const;
  void expect_object() const;
  std::string path() const;

  const nlohmann::json* value_;
  const StateValue* parent_ = nullptr;
  std::string_view name_;  // empty: an item of an array, at index_
  std::size_t index_ = 0;
};

}  // namespace experiment::shared
