// A place in a definition document: the value together with the way to it, read with a type and a range.
//
// Each reading function refuses (throws Refusal with path, value and expectation) what does not fit, so that readers
// state their rules in one line per field. A child points at its parent, which has to outlive it: keep the parent in a
// variable. The path is written only when it is needed. No locking.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace experiment::shared {

inline constexpr std::uint32_t kLongestDurationS = 28 * 86400;

class Node {
 public:
  explicit Node(const nlohmann::json& root) : value_(&root) {}

  const nlohmann::json& value() const { return *value_; }
  std::string path() const;
  [[noreturn]] void refuse(std::string expected) const;

  // Objects and arrays. find, require and at need an object or an array, so check the type before.
  void check_object(std::string_view expected) const;
  void check_array(std::size_t least, std::size_t most, std::string_view expected) const;
  std::size_t size() const { return value_->size(); }
  std::optional<Node> find(std::string_view member) const;
  Node require(std::string_view member, std::string_view expected) const;
  Node at(std::size_t index) const;

  // Scalars.
  double number(double least, double most, std::string_view expected) const;
  double share() const;  // a number from 0 to 1
  // A number without fraction; 100.0 is one, as in JSON Schema.
  std::uint64_t integer(std::uint64_t least, std::uint64_t most) const;
  const std::string& string(std::string_view expected) const;
  // The index of the string in `names`.
  std::size_t choice(std::initializer_list<std::string_view> names) const;
  // A duration like 10s 5m 24h 7d in seconds, from `least_s` to 28d.
  std::uint32_t seconds(std::uint32_t least_s) const;
  // A key, as in definition_key.
  const std::string& key() const;
  // A salt: 1 to 64 bytes of printable ASCII.
  const std::string& salt() const;

 private:
  Node(const nlohmann::json& value, const Node& parent, std::string_view member, std::size_t index)
      : value_(&value), parent_(&parent), member_(member), index_(index) {}

  const nlohmann::json* value_;
  const Node* parent_ = nullptr;
  std::string_view member_;  // in an object; empty data pointer: in an array
  std::size_t index_ = 0;
};

// The number of seconds in `5m`; nullopt unless it is digits without leading zero and one of s m h d.
std::optional<std::uint64_t> parse_duration(std::string_view text);

}  // namespace experiment::shared
