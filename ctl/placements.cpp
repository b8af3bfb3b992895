#include "ctl/placements.h"

#include <algorithm>
#include <numeric>

namespace experiment::ctl {
namespace {

using bandit::Desired;

// As nodes match: a key, a prefix with a star, or all.
bool matches(const std::string& pattern, const std::string& key) {
  if (pattern == "all") return true;
  if (pattern.back() == '*') return key.compare(0, pattern.size() - 1, pattern, 0, pattern.size() - 1) == 0;
  return pattern == key;
}

// Levenshtein's: insertions, deletions and substitutions.
std::size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

struct Nearest {
  std::string pattern, place;
  std::size_t distance = 0;
  bool matches = false;
};

Nearest nearest_to(const std::string& key, const std::vector<Edge>& edges) {
  Nearest nearest;
  for (const Edge& edge : edges) {
    if (!edge.speaks()) continue;
    for (const Placement& placement : edge.placements) {
      for (const std::string& pattern : placement.patterns) {
        const std::size_t far = distance(key, pattern.back() == '*' ? pattern.substr(0, pattern.size() - 1) : pattern);
        const bool match = matches(pattern, key);
        if (!nearest.pattern.empty() && !match && far >= nearest.distance) continue;
        nearest = {pattern, placement.place, far, match};
        if (match) return nearest;
      }
    }
  }
  return nearest;
}

bool declares(const std::vector<Edge>& edges, const std::string& unit) {
  return std::any_of(edges.begin(), edges.end(), [&](const Edge& edge) {
    return edge.speaks() && std::find(edge.units.begin(), edge.units.end(), unit) != edge.units.end();
  });
}

}  // namespace

std::vector<std::string> unplaced(const bandit::Document& document, const std::vector<Edge>& edges) {
  std::vector<std::string> lines;
  if (std::none_of(edges.begin(), edges.end(), [](const Edge& edge) { return edge.speaks(); })) return lines;
  for (const bandit::Experiment& experiment : document.experiments) {
    if (experiment.desired == Desired::kStopped || experiment.desired == Desired::kArchived) continue;
    const Nearest nearest = nearest_to(experiment.key, edges);
    if (!nearest.matches) {
      lines.push_back("no edge applies \"" + experiment.key + "\"; " +
                      (nearest.pattern.empty() ? "no edge has a placement"
                                               : "nearest pattern is \"" + nearest.pattern + "\" at " + nearest.place));
    }
    if (!experiment.unit.empty() && !declares(edges, experiment.unit)) {
      lines.push_back("no edge declares the unit \"" + experiment.unit + "\" of \"" + experiment.key + "\"");
    }
  }
  return lines;
}

}  // namespace experiment::ctl
