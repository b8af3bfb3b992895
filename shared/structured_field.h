// Reads RFC 9651 dictionaries as backends send them: `purchase, revenue=19.99;id="o-123"`. No heap, views into the
// text.
#pragma once

#include <optional>
#include <string_view>

namespace experiment::shared {

struct DictionaryMember {
  std::string_view key;
  std::string_view value;  // of the item, quotes taken off; empty for a bare key
  std::string_view id;     // of the parameter "id", quotes taken off
};

class DictionaryReader {
 public:
  explicit DictionaryReader(std::string_view text) noexcept : rest_(text) {}
  // The next member; nullopt at the end, or at the first place that is no dictionary (what came before counts).
  std::optional<DictionaryMember> next() noexcept;

 private:
  std::optional<DictionaryMember> read_member() noexcept;
  bool read_key(std::string_view& key) noexcept;
  bool read_item(std::string_view& value) noexcept;
  void skip_spaces() noexcept;
  bool take(char c) noexcept;
  std::string_view rest_;
};

}  // namespace experiment::shared
