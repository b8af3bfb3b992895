#include "ctl/check.h"

#include <iostream>
#include <iterator>
#include <optional>

#include "shared/definition_json.h"
#include "shared/state_files.h"

namespace experiment::ctl {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{64} << 20;

shared::FileText read_input(const std::string& file) {
  if (file != "-") return shared::read_file(file, kMaxBytes);
  shared::FileText input;
  input.text.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  return input;
}

}  // namespace

int check(const std::string& file, Output& output) {
  const shared::FileText input = read_input(file);
  if (!input.error.empty()) return output.fail(kUnreachable, input.error);
  shared::DefinitionError error;
  const std::optional<shared::ParsedDocument> parsed = shared::parse_document(input.text, error);
  if (!parsed) return output.fail(kRefused, file + " refused " + shared::describe(error));
  for (const std::string& warning : parsed->warnings) output.warn(file + ": " + warning);
  const std::size_t count = parsed->document.experiments.size();
  return output.done(file + ": good, " + std::to_string(count) + (count == 1 ? " experiment\n" : " experiments\n"),
                     {{"experiments", count}});
}

}  // namespace experiment::ctl
