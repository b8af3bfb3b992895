#include "shared/runtime.h"

#include <limits>
#include <numeric>

#include "shared/checked_json.h"

namespace experiment::shared {
namespace {

using bandit::GoalKind;
using bandit::ValuePer;
using nlohmann::json;

constexpr std::uint64_t kMaxEpochId = (std::uint64_t{1} << 48) - 1;
constexpr std::uint64_t kMaxU32 = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint64_t kMaxU64 = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kMaxScale = 9;

json to_json(const std::vector<Kill>& kills) {
  json out = json::array();
  for (const Kill& kill : kills) {
    json item = {{"variant", kill.variant}, {"reason", kill.reason}, {"by", kill.by}, {"at_s", kill.at_s}};
    if (kill.id != 0) item["id"] = hex_text(kill.id);
    if (kill.lifted) {
      item["lifted"] = {{"by", kill.lifted->by}, {"reason", kill.lifted->reason}, {"at_s", kill.lifted->at_s}};
    }
    out.push_back(std::move(item));
  }
  return out;
}

json to_json(const std::vector<GoalRecord>& goals) {
  json out = json::array();
  for (const GoalRecord& goal : goals) {
    out.push_back({{"key", goal.key},
                   {"kind", goal.kind == GoalKind::kValue ? "value" : "conversion"},
                   {"per", goal.per == ValuePer::kTotal ? "total" : "first"},
                   {"scale", goal.scale},
                   {"max", goal.max}});
  }
  return out;
}

json to_json(const std::vector<EpochRecord>& epochs) {
  json out = json::array();
  for (const EpochRecord& epoch : epochs) {
    out.push_back({{"id", epoch.id},
                   {"started_ms", epoch.started_ms},
                   {"ended_ms", epoch.ended_ms},
                   {"sealed", epoch.sealed},
                   {"quotas", epoch.quotas},
                   {"goals", epoch.goals}});
  }
  return out;
}

json to_json(const ExperimentRuntime& experiment) {
  return {{"generation", experiment.generation},
          {"generation_signature", hex_text(experiment.generation_signature)},
          {"revision", experiment.revision},
          {"revision_signature", hex_text(experiment.revision_signature)},
          {"arms", experiment.arms},
          {"goals", to_json(experiment.goals)},
          {"kills", to_json(experiment.kills)},
          {"epochs", to_json(experiment.epochs)},
          {"runs", experiment.runs},
          {"started_ms", experiment.started_ms}};
}

Kill read_kill(const StateValue& value) {
  value.expect_members({"variant", "reason", "by", "at_s"}, {"id", "lifted"});
  Kill kill;
  kill.variant = value.at("variant").text();
  kill.reason = value.at("reason").text();
  kill.by = value.at("by").text();
  kill.at_s = value.at("at_s").time();
  if (const auto id = value.find("id")) kill.id = id->hex();
  if (const auto lifted = value.find("lifted")) {
    lifted->expect_members({"by", "reason", "at_s"});
    kill.lifted = Lift{lifted->at("by").text(), lifted->at("reason").text(), lifted->at("at_s").time()};
  }
  return kill;
}

std::vector<Kill> read_kills(const StateValue& value) {
  std::vector<Kill> kills;
  value.each_item([&](const StateValue& item) { kills.push_back(read_kill(item)); });
  return kills;
}

GoalRecord read_goal(const StateValue& value) {
  value.expect_members({"key", "kind", "per", "scale", "max"});
  const StateValue kind = value.at("kind");
  const StateValue per = value.at("per");
  if (kind.text() != "conversion" && kind.text() != "value") kind.refuse("conversion or value");
  if (per.text() != "first" && per.text() != "total") per.refuse("first or total");
  GoalRecord goal;
  goal.key = value.at("key").text();
  goal.kind = kind.text() == "value" ? GoalKind::kValue : GoalKind::kConversion;
  goal.per = per.text() == "total" ? ValuePer::kTotal : ValuePer::kFirst;
  goal.scale = static_cast<std::uint8_t>(value.at("scale").number(kMaxScale));
  goal.max = value.at("max").number(kMaxU64);
  return goal;
}

EpochRecord read_epoch(const StateValue& value, const ExperimentRuntime& experiment) {
  value.expect_members({"id", "started_ms", "ended_ms", "sealed", "quotas", "goals"});
  EpochRecord epoch;
  epoch.id = value.at("id").number(kMaxEpochId);
  epoch.started_ms = value.at("started_ms").time();
  epoch.ended_ms = value.at("ended_ms").time();
  epoch.sealed = value.at("sealed").flag();
  epoch.goals = static_cast<int>(value.at("goals").number(experiment.goals.size()));
  const StateValue quotas = value.at("quotas");
  quotas.each_item(
      [&](const StateValue& item) { epoch.quotas.push_back(static_cast<int>(item.number(bandit::kSlots))); });
  const bool whole = std::accumulate(epoch.quotas.begin(), epoch.quotas.end(), 0LL) == bandit::kSlots;
  if (!whole || epoch.quotas.size() > experiment.arms.size()) {
    quotas.refuse("slots of at most " + std::to_string(experiment.arms.size()) + " arms that sum to " +
                  std::to_string(bandit::kSlots));
  }
  // Two epochs of one id would have two propensities under one name.
  if (!experiment.epochs.empty() && epoch.id <= experiment.epochs.back().id) {
    value.refuse("an id above the one before, " + std::to_string(experiment.epochs.back().id));
  }
  return epoch;
}

ExperimentRuntime read_experiment(const StateValue& value) {
  value.expect_members({"generation", "generation_signature", "revision", "revision_signature", "arms", "goals",
                        "kills", "epochs", "runs", "started_ms"});
  ExperimentRuntime out;
  out.generation = static_cast<std::uint32_t>(value.at("generation").number(kMaxU32));
  out.generation_signature = value.at("generation_signature").hex();
  out.revision = static_cast<std::uint32_t>(value.at("revision").number(kMaxU32));
  out.revision_signature = value.at("revision_signature").hex();
  const StateValue arms = value.at("arms");
  arms.each_item([&](const StateValue& item) { out.arms.push_back(item.text()); });
  if (out.arms.size() > bandit::kMaxArms) arms.refuse("at most " + std::to_string(bandit::kMaxArms) + " arms");
  const StateValue goals = value.at("goals");
  goals.each_item([&](const StateValue& item) { out.goals.push_back(read_goal(item)); });
  if (out.goals.size() > bandit::kMaxGoals) goals.refuse("at most " + std::to_string(bandit::kMaxGoals) + " goals");
  out.kills = read_kills(value.at("kills"));
  const StateValue epochs = value.at("epochs");
  epochs.each_item([&](const StateValue& item) { out.epochs.push_back(read_epoch(item, out)); });
  out.runs = value.at("runs").text();
  out.started_ms = value.at("started_ms").time();
  return out;
}

Runtime read_runtime(const StateValue& value) {
  value.expect_members({"version", "kill_all", "experiments"}, {"document"});
  Runtime runtime;
  runtime.version = value.at("version").number(kMaxU64);
  if (const auto document = value.find("document")) runtime.document = document->number(kMaxU64);
  runtime.kill_all = read_kills(value.at("kill_all"));
  const StateValue experiments = value.at("experiments");
  experiments.each_member([&](const std::string& key, const StateValue& member) {
    runtime.experiments.emplace(key, read_experiment(member));
  });
  return runtime;
}

std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// What `read` makes of a state, or nullopt and the reason.
template <typename Read>
auto read_state(const json& state, std::string& error, Read read)
    -> std::optional<decltype(read(std::declval<const StateValue&>()))> {
  try {
    return read(StateValue(state));
  } catch (const StateError& wrong) {
    error = wrong.text;
    return std::nullopt;
  }
}

std::optional<json> parse_json(std::string_view text, std::string& error) {
  json value = json::parse(text, nullptr, false);
  if (!value.is_discarded()) return value;
  error = "no JSON: " + std::to_string(text.size()) + " bytes";
  return std::nullopt;
}

}  // namespace

std::string encode_experiment_runtime(const ExperimentRuntime& experiment) {
  return dump(to_json(experiment));
}

std::optional<ExperimentRuntime> decode_experiment_runtime(std::string_view text, std::string& error) {
  const std::optional<json> value = parse_json(text, error);
  if (!value) return std::nullopt;
  return read_state(*value, error, read_experiment);
}

std::string encode_kills(const std::vector<Kill>& kills) {
  return dump(to_json(kills));
}

std::optional<std::vector<Kill>> decode_kills(std::string_view text, std::string& error) {
  const std::optional<json> value = parse_json(text, error);
  if (!value) return std::nullopt;
  return read_state(*value, error, read_kills);
}

std::string encode_runtime(const Runtime& runtime) {
  json experiments = json::object();
  for (const auto& [key, experiment] : runtime.experiments) experiments[key] = to_json(experiment);
  return seal_state({{"version", runtime.version},
                     {"document", runtime.document},
                     {"kill_all", to_json(runtime.kill_all)},
                     {"experiments", std::move(experiments)}});
}

std::optional<Runtime> decode_runtime(std::string_view text, std::string& error) {
  const std::optional<json> state = open_state(text, error);
  if (!state) return std::nullopt;
  return read_state(*state, error, read_runtime);
}

}  // namespace experiment::shared
