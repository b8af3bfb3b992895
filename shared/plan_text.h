// What the leader hands to workers for one experiment: its canonical definition, and the numbers that the runtime state
// gave it.
//
//   generation SP revision SP arm,arm,... SP goal:kind,goal:kind,... LF canonical definition
//
// Arms and goals by number (a dropped variant keeps its number); kind is c (conversion) or v (value). "-" stands for no
// goals.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "shared/definition_json.h"
#include "shared/runtime.h"

namespace experiment::shared {

struct PlanText {
  std::uint32_t generation = 1;
  std::uint32_t revision = 1;
  std::vector<std::string> arms;
  std::vector<GoalRecord> goals;  // key and kind only
  PlacedExperiment placed;
};

std::string encode_plan_text(const ExperimentRuntime& state, std::string_view canonical);
// Returns: nullopt and one line in `error` when the text is not what encode_plan_text made.
std::optional<PlanText> decode_plan_text(std::string_view text, std::string& error);

}  // namespace experiment::shared
