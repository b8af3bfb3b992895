// The kill file: one KEY, KEY/VARIANT or * per line, # comments. A line kills at once, and `resume` refuses while it
// stands.
//
// Parsed by the leader each second and by experimentctl. A line that says nothing understandable is an error of its
// own; the others hold, because a typo must never keep another kill from working.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace experiment::shared {

struct KillLine {
  std::string key, variant;  // variant empty: the whole experiment; both empty: everything
  bool all = false;          // "*"
  int line = 0;              // from 1
};

struct KillFile {
  std::vector<KillLine> lines;
  std::vector<std::string> errors;  // line 3: "Hero", expected KEY, KEY/VARIANT or *
};
KillFile parse_kill_file(std::string_view text);

// Whether the line kills this target: an empty key stands for everything, an empty variant for the whole experiment.
bool covers(const KillLine& line, std::string_view key, std::string_view variant);

// What Kill::by says of a kill that a kill file made, and the path in it; empty when another hand made it.
std::string kill_file_author(std::string_view path);
std::string_view kill_file_of(std::string_view author);

}  // namespace experiment::shared
