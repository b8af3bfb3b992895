#include "shared/definition_checks.h"

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace experiment::shared {
namespace {

// Indices of a layer's experiments, in document order.
using Members = std::map<std::string_view, std::vector<std::size_t>>;

template <typename Item>
void check_unique(const std::vector<Item>& items, const Node& list, const std::string& expected) {
  std::unordered_set<std::string_view> keys;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (keys.insert(items[i].key).second) continue;
    const Node item = list.at(i);
    item.find("key")->refuse(expected);
  }
}

Members members_of_layers(const bandit::Document& document, const Node& list) {
  Members members;
  for (const bandit::Layer& layer : document.layers) members[layer.key];
  for (std::size_t i = 0; i < document.experiments.size(); ++i) {
    const std::string& name = document.experiments[i].layer;
    if (name.empty()) continue;
    const auto layer = members.find(name);
    if (layer == members.end()) {
      const Node experiment = list.at(i);
      experiment.find("layer")->refuse("the key of one of the document's layers");
    }
    layer->second.push_back(i);
  }
  return members;
}

// An experiment that names no unit gets the first that an edge declares, which the document cannot know: it counts as a
// unit of its own.
void check_units(const std::vector<std::size_t>& members, const bandit::Document& document, const Node& list) {
  for (const std::size_t i : members) {
    const bandit::Experiment& first = document.experiments[members.front()];
    if (document.experiments[i].unit == first.unit) continue;
    const std::string unit = first.unit.empty() ? "no unit named" : "the unit \"" + first.unit + "\"";
    const Node experiment = list.at(i);
    experiment.find("unit").value_or(experiment).refuse(unit + ", as in \"" + first.key + "\" of the same layer");
  }
}

bool holds_slice(const bandit::Experiment& experiment) {
  return experiment.desired == bandit::Desired::kRunning || experiment.desired == bandit::Desired::kFrozen;
}

void check_slices(std::vector<std::size_t> members, const bandit::Document& document, const Node& list) {
  const auto at = [&](std::size_t i) -> const bandit::Experiment& { return document.experiments[i]; };
  members.erase(std::remove_if(members.begin(), members.end(), [&](std::size_t i) { return !holds_slice(at(i)); }),
                members.end());
  std::stable_sort(members.begin(), members.end(),
                   [&](std::size_t a, std::size_t b) { return at(a).slice_begin < at(b).slice_begin; });
  for (std::size_t k = 1; k < members.size(); ++k) {
    if (at(members[k]).slice_begin >= at(members[k - 1]).slice_end) continue;
    const auto [earlier, later] = std::minmax(members[k - 1], members[k]);
    const Node experiment = list.at(later);
    experiment.find("slice")
        .value_or(experiment)
        .refuse("a slice of layer \"" + at(later).layer + "\" that does not overlap that of \"" + at(earlier).key +
                "\"");
  }
}

}  // namespace

void check_document(const bandit::Document& document, const Node& experiments, const Node* layers) {
  check_unique(document.experiments, experiments, "a key that no other experiment has");
  if (layers != nullptr) check_unique(document.layers, *layers, "a key that no other layer has");
  for (const auto& [layer, members] : members_of_layers(document, experiments)) {
    check_units(members, document, experiments);
    check_slices(members, document, experiments);
  }
}

}  // namespace experiment::shared
