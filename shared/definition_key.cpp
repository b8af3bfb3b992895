#include "shared/definition_key.h"

#include "bandit/definition.h"

namespace experiment::shared {

bool is_key(std::string_view text) noexcept {
  if (text.empty() || text.size() > bandit::kMaxKeyBytes || text[0] < 'a' || text[0] > 'z') return false;
  char before = '-';
  for (char c : text) {
    bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (!word && (c != '-' || before == '-')) return false;
    before = c;
  }
  return before != '-' && text != "off" && text != "all" && text != "none";
}

}  // namespace experiment::shared
