// What the edges say of themselves: their reports in the store, as far as tools understand them.
//
// A report is a JSON object; every member may be missing, and others are ignored:
//   {"host":"edge-7","document":42,"runtime":1017,"keys":"0f3a9c21","ring":["11d0ce55"],"library":1,
//    "at_s":1790000000,"units":["visitor"],
//    "placements":[{"patterns":["checkout-button","hero-*"],"place":"server www, location /"}]}
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ctl/state.h"

namespace experiment::ctl {

struct Placement {
  std::vector<std::string> patterns;  // "key", "hero-*" or "all"
  std::string place;
};

struct Edge {
  std::string instance, host;
  std::int64_t age_s = 0;            // of its report
  std::optional<std::int64_t> at_s;  // its own clock, when it made the report
  std::uint64_t document = 0, runtime = 0;
  std::string keys;               // fingerprint of its key ring
  std::vector<std::string> ring;  // of each of its keys, the one that signs first; empty: not said
  std::uint64_t library = 1;      // version that it calls in Redis; before releases said so it was 1
  std::vector<Placement> placements;
  std::vector<std::string> units;

  // It reports every minute; a process that ended leaves its last report behind.
  bool speaks() const { return age_s <= 180; }
  // "edge-7 (AbCdEfGh)".
  std::string name() const;
};

// Unreadable ones are warnings.
std::vector<Edge> read_edges(State& state);

}  // namespace experiment::ctl
