#include "shared/definition_error.h"

namespace experiment::shared {
namespace {

constexpr std::size_t kShownBytes = 60;

std::string cut(std::string text) {
  if (text.size() > kShownBytes) {
    text.resize(kShownBytes);
    text += "...";
  }
  return text;
}

std::string printable(const nlohmann::json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::string describe(const DefinitionError& error) {
  return "at " + (error.path.empty() ? "the top level" : error.path) + ": " + error.value + ", expected " +
         error.expected;
}

std::string excerpt(const nlohmann::json& value) {
  return cut(printable(value));
}

void append_token(std::string& path, std::string_view member) {
  std::string escaped;
  for (const char c : member.substr(0, 4 * kShownBytes)) {
    if (c == '~') {
      escaped += "~0";
    } else if (c == '/') {
      escaped += "~1";
    } else {
      escaped += c;
    }
  }
  const std::string quoted = printable(escaped);
  path += '/';
  path += cut(quoted.substr(1, quoted.size() - 2));
}

}  // namespace experiment::shared
