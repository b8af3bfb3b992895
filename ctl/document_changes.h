// What publishing a document would change: which experiments, what begins anew, who moves, and what stays killed.
//
// Pure. It is found by doing what the node that allocates would do, on a copy of the runtime state.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "shared/definition_json.h"
#include "shared/runtime.h"

namespace experiment::ctl {

struct ExperimentChange {
  enum class Kind : std::uint8_t { kNew, kChanged, kRemoved };
  Kind kind = Kind::kChanged;
  std::string key;
  std::vector<std::string> effects;
  // Share of the units that see another variant, of those whom no cookie holds; in a new generation none does. Where
  // it has not run yet nobody can move.
  std::optional<double> moves;
};

struct StandingKill {
  std::string target;  // "everything", KEY or KEY/VARIANT
  shared::Kill kill;
};

// Of every experiment that differs, in the order of the documents.
std::vector<ExperimentChange> changes_between(const shared::ParsedDocument& before, const shared::ParsedDocument& after,
                                              const shared::Runtime& runtime, std::int64_t now_ms);
// Kills of what the document wants visitors to see; of one experiment where `key` is not empty.
std::vector<StandingKill> stays_killed(const bandit::Document& document, const shared::Runtime& runtime,
                                       const std::string& key);

std::string to_text(const std::vector<ExperimentChange>& changes);
std::string to_text(const std::vector<StandingKill>& kills);
nlohmann::json to_json(const std::vector<ExperimentChange>& changes);
nlohmann::json to_json(const std::vector<StandingKill>& kills);

}  // namespace experiment::ctl
