#include "shared/definition_experiment.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "shared/definition_allocation.h"
#include "shared/definition_features.h"
#include "shared/definition_goals.h"

namespace experiment::shared {
namespace {

constexpr std::string_view kEffective[] = {
    "key",           "desired",    "unit",     "salt",          "layer",      "slice",    "traffic",  "render",
    "control_cache", "control",    "variants", "goals",         "winner",     "starts",   "ends",     "at_end",
    "hash",          "allocation", "rollout",  "prerequisites", "guardrails", "holdback", "targeting"};
constexpr std::string_view kDescriptive[] = {"name", "hypothesis", "owner", "tags", "surface", "plan"};

const std::vector<std::string_view>& known_members() {
  static const std::vector<std::string_view> kKnown = [] {
    std::vector<std::string_view> all(std::begin(kEffective), std::end(kEffective));
    all.insert(all.end(), std::begin(kDescriptive), std::end(kDescriptive));
    return all;
  }();
  return kKnown;
}

void read_desired(const Node& node, bandit::Experiment& experiment) {
  const auto desired = node.find("desired");
  if (!desired) return;
  if (desired->value() == "killed") {
    desired->refuse(
        "one of draft running frozen stopped concluded archived; to kill, use the kill verb or the kill file");
  }
  experiment.desired =
      static_cast<bandit::Desired>(desired->choice({"draft", "running", "frozen", "stopped", "concluded", "archived"}));
}

// A bound of a slice in slots of the layer.
std::uint16_t read_bound(const Node& node) {
  constexpr double kTolerance = 1e-6;  // of a slot: 0.3 * 10000 is no integer in binary
  const double slots = node.share() * bandit::kSlots;
  if (std::abs(slots - std::round(slots)) > kTolerance) node.refuse("a number from 0 to 1 in steps of 0.0001");
  return static_cast<std::uint16_t>(std::llround(slots));
}

void read_place(const Node& node, bandit::Experiment& experiment) {
  if (const auto n = node.find("unit")) experiment.unit = n->key();
  if (const auto n = node.find("layer")) experiment.layer = n->key();
  if (const auto n = node.find("slice")) {
    constexpr std::string_view kExpected = "an array of two numbers, the first below the second";
    if (experiment.layer.empty()) n->refuse("no slice without a layer");
    n->check_array(2, 2, kExpected);
    experiment.slice_begin = read_bound(n->at(0));
    experiment.slice_end = read_bound(n->at(1));
    if (experiment.slice_begin >= experiment.slice_end) n->refuse(std::string(kExpected));
  }
  if (const auto n = node.find("traffic")) {
    experiment.traffic = n->share();
    if (node.find("rollout")) n->refuse("either traffic or rollout, not both");
  }
}

void read_cache_rules(const Node& node, bandit::Experiment& experiment) {
  if (const auto n = node.find("render")) {
    experiment.render = static_cast<bandit::Render>(n->choice({"origin", "edge"}));
  }
  const auto shared_cache = node.find("control_cache");
  experiment.control_cache_shared =
      shared_cache ? shared_cache->choice({"own", "shared"}) == 1 : node.find("rollout").has_value();
}

bandit::Variant read_variant(const Node& node, Warnings& warnings) {
  node.check_object("a variant (an object)");
  warn_of_unknown_members(node, {"key", "weight", "payload", "name"}, warnings);
  bandit::Variant variant;
  variant.key = node.require("key", "a key").key();
  if (const auto n = node.find("weight")) {
    variant.weight = n->number(0, std::numeric_limits<double>::max(), "a number >= 0");
  }
  if (const auto n = node.find("payload")) {
    n->check_object("an object of fields");
    variant.payload = n->value().dump();
  }
  return variant;
}

// Every weight is 0 or at least one slot of the allocation table.
void check_weights(const Node& list, const std::vector<bandit::Variant>& variants) {
  constexpr double kRounding = 1e-12;
  double sum = 0;
  for (const bandit::Variant& variant : variants) sum += variant.weight;
  if (!(sum > 0) || !std::isfinite(sum)) list.refuse("variants of which at least one has weight, with a finite sum");
  for (std::size_t i = 0; i < variants.size(); ++i) {
    const double weight = variants[i].weight;
    if (weight == 0 || weight * bandit::kSlots >= sum * (1 - kRounding)) continue;
    const Node variant = list.at(i);
    variant.find("weight").value_or(variant).refuse("0, or at least 1/10000 of the sum of the weights");
  }
}

std::size_t find_variant(const Node& name, const std::vector<bandit::Variant>& variants) {
  constexpr std::string_view kExpected = "the key of a variant of this experiment";
  const std::string& key = name.string(kExpected);
  for (std::size_t i = 0; i < variants.size(); ++i) {
    if (variants[i].key == key) return i;
  }
  name.refuse(std::string(kExpected));
}

void read_variants(const Node& node, bandit::Experiment& experiment, Warnings& warnings) {
  constexpr std::string_view kExpected = "an array of 2 to 20 variants, or 1 for a plain flag";
  const Node list = node.require("variants", kExpected);
  list.check_array(1, bandit::kMaxArms, kExpected);
  auto& variants = experiment.variants;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Node item = list.at(i);
    bandit::Variant variant = read_variant(item, warnings);
    const auto has_key = [&](const bandit::Variant& other) { return other.key == variant.key; };
    if (std::any_of(variants.begin(), variants.end(), has_key)) {
      item.find("key")->refuse("a key that no other variant has");
    }
    variants.push_back(std::move(variant));
  }
  check_weights(list, variants);
  if (const auto n = node.find("control")) experiment.control = find_variant(*n, variants);
}

void read_conclusion(const Node& node, bandit::Experiment& experiment) {
  constexpr std::string_view kExpected = "the variant that everyone gets, as the experiment is concluded";
  const bool concluded = experiment.desired == bandit::Desired::kConcluded;
  const auto winner = concluded ? node.require("winner", kExpected) : node.find("winner");
  if (winner) experiment.winner = experiment.variants[find_variant(*winner, experiment.variants)].key;
  if (const auto n = node.find("holdback")) experiment.holdback = n->share();
}

}  // namespace

bandit::Experiment read_experiment(const Node& node, Warnings& warnings) {
  node.check_object("an experiment (an object)");
  warn_of_unknown_members(node, known_members(), warnings);
  bandit::Experiment experiment;
  experiment.key = node.require("key", "a key").key();
  const auto salt = node.find("salt");
  experiment.salt = salt ? salt->salt() : experiment.key;
  read_desired(node, experiment);
  read_place(node, experiment);
  read_cache_rules(node, experiment);
  read_variants(node, experiment, warnings);
  read_goals(node, experiment, warnings);
  read_allocation(node, experiment, warnings);
  read_conclusion(node, experiment);
  read_missing_features(node, experiment, warnings);
  return experiment;
}

bandit::Layer read_layer(const Node& node, Warnings& warnings) {
  node.check_object("a layer (an object)");
  warn_of_unknown_members(node, {"key", "salt", "holdout", "name"}, warnings);
  bandit::Layer layer;
  layer.key = node.require("key", "a key").key();
  const auto salt = node.find("salt");
  layer.salt = salt ? salt->salt() : layer.key;
  if (const auto n = node.find("holdout")) layer.holdout = n->share();
  return layer;
}

bool is_effective_member(std::string_view member) {
  return std::find(std::begin(kEffective), std::end(kEffective), member) != std::end(kEffective);
}

}  // namespace experiment::shared
