#include "shared/definition_json.h"

#include <exception>
#include <unordered_map>
#include <utility>

#include <nlohmann/json.hpp>

#include "shared/definition_checks.h"
#include "shared/definition_experiment.h"
#include "shared/definition_features.h"
#include "shared/definition_node.h"
#include "shared/definition_warnings.h"
#include "shared/strict_json.h"

namespace experiment::shared {
namespace {

using Json = nlohmann::json;
using LayerTexts = std::unordered_map<std::string_view, std::string>;  // canonical text by layer key

void check_schema_number(const Node& root) {
  constexpr std::string_view kExpected = "1, the only schema that this build knows";
  const Node schema = root.require("schema", kExpected);
  schema.number(1, 1, kExpected);
}

// {"b":2,"a":1} with the wanted members, sorted: nlohmann's objects are.
template <typename Wanted>
std::string select_members(const Json& object, Wanted is_wanted) {
  std::string text = "{";
  for (const auto& [name, value] : object.items()) {
    if (!is_wanted(name)) continue;
    if (text.size() > 1) text += ',';
    text += Json(name).dump() + ':' + value.dump();
  }
  return text + '}';
}

std::string canonical_layer(const Json& layer) {
  return select_members(layer,
                        [](std::string_view name) { return name == "key" || name == "salt" || name == "holdout"; });
}

LayerTexts read_layers(const Node& list, bandit::Document& document, Warnings& warnings) {
  constexpr std::string_view kExpected = "an array of at most 5000 layers";
  list.check_array(0, bandit::kMaxExperiments, kExpected);
  document.layers.reserve(list.size());  // keys are referred to below
  LayerTexts texts;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Node layer = list.at(i);
    document.layers.push_back(read_layer(layer, warnings));
    texts.emplace(document.layers.back().key, canonical_layer(layer.value()));
  }
  return texts;
}

void read_experiments(const Node& list, bandit::Document& document, Warnings& warnings) {
  list.check_array(0, bandit::kMaxExperiments, "an array of at most 5000 experiments");
  document.experiments.reserve(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Node experiment = list.at(i);
    document.experiments.push_back(read_experiment(experiment, warnings));
  }
}

std::vector<std::string> canonical_texts(const bandit::Document& document, const Json& experiments,
                                         const LayerTexts& layers) {
  const std::string holdout = Json(document.holdout).dump();
  std::vector<std::string> texts;
  texts.reserve(document.experiments.size());
  for (std::size_t i = 0; i < document.experiments.size(); ++i) {
    const auto layer = layers.find(document.experiments[i].layer);
    texts.push_back("{\"experiment\":" + select_members(experiments[i], is_effective_member) +
                    ",\"holdout\":" + holdout + ",\"layer\":" + (layer == layers.end() ? "null" : layer->second) + '}');
  }
  return texts;
}

ParsedDocument read_document(const Json& json) {
  const Node root(json);
  root.check_object("a definition document (an object)");
  check_schema_number(root);
  Warnings warnings;
  warn_of_unknown_members(
      root, {"$schema", "schema", "holdout", "layers", "segments", "slos", "surfaces", "experiments"}, warnings);

  ParsedDocument parsed;
  bandit::Document& document = parsed.document;
  if (const auto n = root.find("holdout")) document.holdout = n->share();
  if (const auto n = root.find("segments")) check_segments(*n);
  const auto layers = root.find("layers");
  const LayerTexts layer_texts = layers ? read_layers(*layers, document, warnings) : LayerTexts{};
  const Node experiments = root.require("experiments", "an array of experiments, which may be empty");
  read_experiments(experiments, document, warnings);
  check_document(document, experiments, layers ? &*layers : nullptr);
  parsed.canonical = canonical_texts(document, experiments.value(), layer_texts);
  parsed.warnings = warnings.take();
  return parsed;
}

PlacedExperiment read_placed(const Json& json) {
  const Node root(json);
  root.check_object("an object");
  Warnings ignored;  // the leader said them
  PlacedExperiment placed;
  const Node experiment = root.require("experiment", "an experiment");
  placed.experiment = read_experiment(experiment, ignored);
  placed.holdout = root.require("holdout", "a number from 0 to 1").share();
  const Node layer = root.require("layer", "a layer or null");
  if (!layer.value().is_null()) placed.layer = read_layer(layer, ignored);
  const std::string& name = placed.experiment.layer;
  if (placed.layer ? placed.layer->key != name : !name.empty()) layer.refuse("the layer that the experiment names");
  return placed;
}

}  // namespace

std::optional<ParsedDocument> parse_document(std::string_view text, DefinitionError& error) try {
  return read_document(parse_strict_json(text));
} catch (const Refusal& refusal) {
  error = refusal.error;
  return std::nullopt;
} catch (const std::exception& e) {  // memory, or a fault of ours
  error = {"", "a document that could not be read", std::string("no failure in reading it: ") + e.what()};
  return std::nullopt;
}

std::optional<PlacedExperiment> parse_placed(std::string_view canonical, std::string& error) try {
  return read_placed(parse_strict_json(canonical));
} catch (const Refusal& refusal) {
  error = describe(refusal.error);
  return std::nullopt;
} catch (const std::exception& e) {
  error = std::string("the experiment could not be read: ") + e.what();
  return std::nullopt;
}

}  // namespace experiment::shared
