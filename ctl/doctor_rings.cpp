#include "ctl/doctor_rings.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

namespace experiment::ctl {
namespace {

struct Ring {
  std::vector<std::string> keys;  // empty: no edge that has it says so
  std::set<std::string> edges;
  bool has(const std::string& key) const { return std::find(keys.begin(), keys.end(), key) != keys.end(); }
};
using Rings = std::map<std::string, Ring>;  // by fingerprint

Rings rings_of(const std::vector<Edge>& edges) {
  Rings rings;
  for (const Edge& edge : edges) {
    if (!edge.speaks()) continue;
    Ring& ring = rings[edge.keys];
    ring.edges.insert(edge.name());
    if (!edge.ring.empty()) ring.keys = edge.ring;
  }
  return rings;
}

std::string list(const Rings& rings) {
  std::string text;
  for (const auto& [fingerprint, ring] : rings)
    text += (text.empty() ? "" : "; ") + fingerprint + " on " + joined(ring.edges);
  return text;
}

// Of each key that an edge signs by: the edges that do not know it.
std::vector<Finding> unknown_signers(const Rings& rings) {
  std::map<std::string, std::pair<std::set<std::string>, std::set<std::string>>> unknown;
  for (const auto& [fingerprint, signer] : rings) {
    for (const auto& [other, ring] : rings) {
      if (ring.has(signer.keys.front())) continue;
      auto& [signs, lacks] = unknown[signer.keys.front()];
      signs.insert(signer.edges.begin(), signer.edges.end());
      lacks.insert(ring.edges.begin(), ring.edges.end());
    }
  }
  std::vector<Finding> findings;
  for (const auto& [key, edges] : unknown) {
    findings.push_back({"cookies that " + joined(edges.first) + " signs by key " + key + " are refused on " +
                            joined(edges.second) + ", where that key is missing",
                        "append the key to experiment_keys there, and reload"});
  }
  return findings;
}

}  // namespace

std::vector<Finding> examine_rings(const std::vector<Edge>& edges, std::vector<Finding>& notes) {
  Rings rings = rings_of(edges);
  std::vector<Finding> findings;
  if (const auto none = rings.find(""); none != rings.end()) {
    findings.push_back({"no key ring on " + joined(none->second.edges) + ": cookies are not signed there",
                        "give them experiment_keys"});
    rings.erase(none);
  }
  if (rings.size() < 2) return findings;
  const auto silent = [](const auto& entry) { return entry.second.keys.empty(); };
  if (std::any_of(rings.begin(), rings.end(), silent)) {
    findings.push_back({"key rings differ, so that edges may refuse each other's cookies: " + list(rings),
                        "give all the same experiment_keys, in the same order"});
    return findings;
  }
  const std::vector<Finding> refused = unknown_signers(rings);
  findings.insert(findings.end(), refused.begin(), refused.end());
  if (refused.empty()) {
    notes.push_back(
        {"rotation of keys under way: each edge reads what the others sign, and rings differ: " + list(rings),
         "take the next step when all have the same"});
  }
  return findings;
}

}  // namespace experiment::ctl
