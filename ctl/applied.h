// Which edges have what the store holds, and which lag behind.
//
// Pure.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "ctl/edges.h"

namespace experiment::ctl {

struct Applied {
  std::size_t edges = 0, current = 0;
  std::vector<std::string> lagging;  // "edge-7 (AbCdEfGh): document 41, runtime 1010"
  std::vector<std::string> silent;   // reported within the hour, and not for minutes: "edge-9 (IjKlMnOp) for 12 min"
};
Applied applied(const std::vector<Edge>& edges, std::uint64_t document, std::uint64_t runtime);

// "applied on 198 of 200 edges; lagging: ..." and what is silent; empty where no edge has reported.
std::string to_text(const Applied& applied);
nlohmann::json to_json(const Applied& applied);

}  // namespace experiment::ctl
