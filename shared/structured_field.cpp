#include "shared/structured_field.h"

namespace experiment::shared {
namespace {

bool is_key_start(char c) noexcept {
  return (c >= 'a' && c <= 'z') || c == '*';
}
bool is_key_part(char c) noexcept {
  return is_key_start(c) || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}
// Of numbers, tokens and booleans.
bool is_bare(char c) noexcept {
  return c > ' ' && c < 127 && c != ',' && c != ';' && c != '"' && c != '=' && c != '(' && c != ')';
}

}  // namespace

void DictionaryReader::skip_spaces() noexcept {
  while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\t')) rest_.remove_prefix(1);
}

bool DictionaryReader::take(char c) noexcept {
  if (rest_.empty() || rest_[0] != c) return false;
  rest_.remove_prefix(1);
  return true;
}

bool DictionaryReader::read_key(std::string_view& key) noexcept {
  if (rest_.empty() || !is_key_start(rest_[0])) return false;
  std::size_t end = 1;
  while (end < rest_.size() && is_key_part(rest_[end])) ++end;
  key = rest_.substr(0, end);
  rest_.remove_prefix(end);
  return true;
}

bool DictionaryReader::read_item(std::string_view& value) noexcept {
  std::size_t end = 0;
  if (take('"')) {
    while (end < rest_.size() && rest_[end] != '"') end += rest_[end] == '\\' ? 2 : 1;
    if (end >= rest_.size()) return false;
    value = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return true;
  }
  while (end < rest_.size() && is_bare(rest_[end])) ++end;
  value = rest_.substr(0, end);
  rest_.remove_prefix(end);
  return end != 0;
}

std::optional<DictionaryMember> DictionaryReader::next() noexcept {
  auto member = read_member();
  if (!member) rest_ = {};  // what follows a fault is not read as a dictionary of its own
  return member;
}

std::optional<DictionaryMember> DictionaryReader::read_member() noexcept {
  skip_spaces();
  DictionaryMember member;
  if (!read_key(member.key)) return std::nullopt;
  if (take('=') && !read_item(member.value)) return std::nullopt;
  while (take(';')) {
    skip_spaces();
    std::string_view name, value;
    if (!read_key(name) || (take('=') && !read_item(value))) return std::nullopt;
    if (name == "id") member.id = value;
  }
  skip_spaces();
  if (!rest_.empty() && !take(',')) return std::nullopt;
  return member;
}

}  // namespace experiment::shared
