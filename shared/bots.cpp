#include "shared/bots.h"

#include <cstddef>

namespace experiment::shared {
namespace {

constexpr char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

// Whether the lower-case `word` stands at `at`.
bool stands(std::string_view text, std::size_t at, std::string_view word) noexcept {
  if (text.size() - at < word.size()) return false;
  for (std::size_t i = 0; i < word.size(); ++i) {
    if (lower(text[at + i]) != word[i]) return false;
  }
  return true;
}

}  // namespace

bool is_bot(std::string_view text) noexcept {
  for (std::size_t i = 0; i + 3 <= text.size(); ++i) {
    switch (text[i] | 0x20) {
      case 'b':
        // "CUBOT" is a maker of telephones.
        if (stands(text, i, "bot") && !(i >= 2 && stands(text, i - 2, "cubot"))) return true;
        break;
      case 'c':
        if (stands(text, i, "crawl")) return true;
        break;
      case 's':
        if (stands(text, i, "spider") || stands(text, i, "slurp") || stands(text, i, "scrap")) return true;
        break;
      case 'f':
        if (stands(text, i, "facebookexternalhit")) return true;
        break;
      case 'h':
        if (stands(text, i, "headless") || stands(text, i, "httrack")) return true;
        break;
      case 'l':
        if (stands(text, i, "lighthouse")) return true;
        break;
      case 'p':
        if (stands(text, i, "pingdom") || stands(text, i, "python-requests")) return true;
        break;
      case 'm':
        if (stands(text, i, "mediapartners")) return true;
        break;
      default:
        break;
    }
  }
  return false;
}

}  // namespace experiment::shared
