// The JSON form of definitions: a published document to bandit::Document, whole or not at all.
//
// The leader and the tools call parse_document; workers call parse_placed on the canonical texts that the leader put
// into the zone. Off the request path: it allocates, but nothing is thrown out of it. No state, no locking: any thread.
// The rules are those of docs/definitions.md; definitions.schema.json says the same for shapes, types and ranges.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bandit/definition.h"
#include "shared/definition_error.h"

namespace experiment::shared {

struct ParsedDocument {
  bandit::Document document;
  // For each experiment, in the document's order, what a worker needs to rebuild it:
  // {"experiment":{...},"holdout":x,"layer":{...}|null} with sorted members, without those that change nothing (name,
  // owner, unknown ones). Equal text: nothing changed.
  std::vector<std::string> canonical;
  std::vector<std::string> warnings;  // printable, each with its place
};

// nullopt and the first fault in `error` when the document is invalid. An experiment that needs a feature which this
// build lacks is no fault: its not_in_build says which.
std::optional<ParsedDocument> parse_document(std::string_view text, DefinitionError& error);

struct PlacedExperiment {
  bandit::Experiment experiment;
  std::optional<bandit::Layer> layer;
  double holdout = 0;  // the document's
};

// Rebuilds an experiment from its canonical text; nullopt and the reason in `error` when it is none.
std::optional<PlacedExperiment> parse_placed(std::string_view canonical, std::string& error);

}  // namespace experiment::shared
