#include "shared/definition_node.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "shared/definition_error.h"
#include "shared/definition_key.h"

namespace experiment::shared {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace

std::optional<std::uint64_t> parse_duration(std::string_view text) {
  constexpr std::size_t kMostDigits = 7;  // 28d in seconds
  if (text.size() < 2 || text.size() > kMostDigits + 1) return std::nullopt;
  const std::string_view digits = text.substr(0, text.size() - 1);
  if (!std::all_of(digits.begin(), digits.end(), is_digit)) return std::nullopt;
  if (digits.front() == '0' && digits.size() > 1) return std::nullopt;
  std::uint64_t count = 0;
  for (const char c : digits) count = count * 10 + static_cast<std::uint64_t>(c - '0');
  switch (text.back()) {
    case 's':
      return count;
    case 'm':
      return count * 60;
    case 'h':
      return count * 3600;
    case 'd':
      return count * 86400;
    default:
      return std::nullopt;
  }
}

std::string Node::path() const {
  if (parent_ == nullptr) return {};
  std::string path = parent_->path();
  if (member_.data() != nullptr) {
    append_token(path, member_);
  } else {
    path += '/' + std::to_string(index_);
  }
  return path;
}

void Node::refuse(std::string expected) const {
  throw Refusal{{path(), excerpt(*value_), std::move(expected)}};
}

void Node::check_object(std::string_view expected) const {
  if (!value_->is_object()) refuse(std::string(expected));
}

void Node::check_array(std::size_t least, std::size_t most, std::string_view expected) const {
  if (!value_->is_array() || value_->size() < least || value_->size() > most) refuse(std::string(expected));
}

std::optional<Node> Node::find(std::string_view member) const {
  const auto& object = value_->get_ref<const nlohmann::json::object_t&>();
  const auto it = object.find(std::string(member));
  if (it == object.end()) return std::nullopt;
  return Node(it->second, *this, it->first, 0);
}

Node Node::require(std::string_view member, std::string_view expected) const {
  if (auto found = find(member)) return *found;
  std::string missing = path();
  append_token(missing, member);
  throw Refusal{{std::move(missing), "missing", std::string(expected)}};
}

Node Node::at(std::size_t index) const {
  return Node((*value_)[index], *this, {}, index);
}

double Node::number(double least, double most, std::string_view expected) const {
  if (!value_->is_number()) refuse(std::string(expected));
  const double number = value_->get<double>();
  if (!(number >= least && number <= most)) refuse(std::string(expected));
  return number;
}

double Node::share() const {
  return number(0, 1, "a number from 0 to 1");
}

std::uint64_t Node::integer(std::uint64_t least, std::uint64_t most) const {
  const std::string expected = "a whole number from " + std::to_string(least) + " to " + std::to_string(most);
  const double value = number(static_cast<double>(least), static_cast<double>(most), expected);
  if (value != std::floor(value)) refuse(expected);
  return static_cast<std::uint64_t>(value);
}

const std::string& Node::string(std::string_view expected) const {
  if (!value_->is_string()) refuse(std::string(expected));
  return value_->get_ref<const std::string&>();
}

std::size_t Node::choice(std::initializer_list<std::string_view> names) const {
  std::string expected = "one of";
  for (const std::string_view name : names) (expected += ' ') += name;
  const auto it = std::find(names.begin(), names.end(), string(expected));
  if (it == names.end()) refuse(expected);
  return static_cast<std::size_t>(it - names.begin());
}

std::uint32_t Node::seconds(std::uint32_t least_s) const {
  const std::string expected = "a duration from " + std::to_string(least_s) + "s to 28d, like 10s 5m 24h 7d";
  const auto parsed = parse_duration(string(expected));
  if (!parsed || *parsed < least_s || *parsed > kLongestDurationS) refuse(expected);
  return static_cast<std::uint32_t>(*parsed);
}

const std::string& Node::key() const {
  constexpr std::string_view kExpected =
      "a key: lower case letters, digits and single dashes, at most 40 bytes, not off, all or none";
  const std::string& text = string(kExpected);
  if (!is_key(text)) refuse(std::string(kExpected));
  return text;
}

const std::string& Node::salt() const {
  constexpr std::string_view kExpected = "a salt: 1 to 64 bytes of printable ASCII";
  const std::string& text = string(kExpected);
  const auto is_printable = [](char c) { return c >= ' ' && c <= '~'; };
  if (text.empty() || text.size() > 64 || !std::all_of(text.begin(), text.end(), is_printable)) {
    refuse(std::string(kExpected));
  }
  return text;
}

}  // namespace experiment::shared
