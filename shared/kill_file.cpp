#include "shared/kill_file.h"

#include "shared/definition_error.h"
#include "shared/definition_key.h"

namespace experiment::shared {
namespace {

constexpr std::string_view kAuthor = "kill file ";

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const std::size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

bool parse_line(std::string_view text, KillLine& out) {
  out.all = text == "*";
  if (out.all) return true;
  const std::size_t slash = text.find('/');
  out.key = text.substr(0, slash);
  if (slash != std::string_view::npos) out.variant = text.substr(slash + 1);
  return is_key(out.key) && (slash == std::string_view::npos || is_key(out.variant));
}

}  // namespace

KillFile parse_kill_file(std::string_view text) {
  KillFile file;
  for (int number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    const std::string_view whole = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    const std::string_view said = trim(whole.substr(0, whole.find('#')));
    if (said.empty()) continue;
    KillLine line;
    line.line = number;
    if (parse_line(said, line)) {
      file.lines.push_back(std::move(line));
    } else {
      file.errors.push_back("line " + std::to_string(number) + ": " + excerpt(said) +
                            ", expected KEY, KEY/VARIANT or *");
    }
  }
  return file;
}

bool covers(const KillLine& line, std::string_view key, std::string_view variant) {
  if (line.all) return true;
  return line.key == key && (line.variant.empty() || line.variant == variant);
}

std::string kill_file_author(std::string_view path) {
  return std::string(kAuthor) + std::string(path);
}

std::string_view kill_file_of(std::string_view author) {
  if (author.substr(0, kAuthor.size()) != kAuthor) return {};
  return author.substr(kAuthor.size());
}

}  // namespace experiment::shared
