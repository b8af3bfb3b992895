// Reference values of the statistics, t/vectors/stats_public.json, for tests that run with the repository root as
// working directory.
#pragma once

#include <fstream>
#include <stdexcept>
#include <string>

#include <nlohmann/json.hpp>

namespace experiment::bandit {

// All entries; throws where the file is missing or is no JSON.
inline nlohmann::json references() {
  std::ifstream file("t/vectors/stats_public.json");
  return nlohmann::json::parse(file).at("entries");
}

inline nlohmann::json reference(const std::string& id) {
  const nlohmann::json entries = references();
  for (const nlohmann::json& entry : entries) {
    if (entry.at("id") == id) return entry;
  }
  throw std::runtime_error("no reference entry " + id);
}

}  // namespace experiment::bandit
