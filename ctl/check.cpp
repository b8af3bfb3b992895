#include "ctl/check.h"

#include <optional>

#include "ctl/edges.h"
#include "ctl/input.h"
#include "ctl/placements.h"
#include "shared/definition_json.h"

namespace experiment::ctl {

int check(const std::string& file, State* state, Output& output) {
  const shared::FileText input = read_input(file);
  if (!input.error.empty()) return output.fail(kUnreachable, input.error);
  shared::DefinitionError error;
  const std::optional<shared::ParsedDocument> parsed = shared::parse_document(input.text, error);
  if (!parsed) return output.fail(kRefused, file + " refused " + shared::describe(error));
  for (const std::string& warning : parsed->warnings) output.warn(file + ": " + warning);
  if (state != nullptr) {
    for (const std::string& line : unplaced(parsed->document, read_edges(*state))) output.warn(file + ": " + line);
  }
  const std::size_t count = parsed->document.experiments.size();
  return output.done(file + ": good, " + std::to_string(count) + (count == 1 ? " experiment\n" : " experiments\n"),
                     {{"experiments", count}});
}

}  // namespace experiment::ctl
