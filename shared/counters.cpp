#include "shared/counters.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "shared/checked_json.h"

namespace experiment::shared {
namespace {

using nlohmann::json;

// Decimal as std::to_string writes it; nullopt for anything else.
std::optional<std::uint64_t> parse_decimal(std::string_view digits) {
  std::uint64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, problem] = std::from_chars(digits.data(), end, value);
  if (problem != std::errc() || stop != end || (digits.size() > 1 && digits.front() == '0')) return std::nullopt;
  return value;
}

CounterVector split(const StateValue& value) {
  std::optional<CounterVector> totals = unpack_vector(value.text());
  if (!totals) value.refuse("decimals joined by commas");
  return std::move(*totals);
}

// {"<experiment>":{"<generation>":{"<epoch>":"<n>,<n>,..."}}}
json to_json(const Counters& counters) {
  json out = json::object();
  for (const auto& [key, totals] : counters) {
    out[key.experiment][std::to_string(key.generation)][std::to_string(key.epoch)] = pack_vector(totals);
  }
  return out;
}

std::uint64_t number_in(const std::string& name, const StateValue& place, std::uint64_t max) {
  const std::optional<std::uint64_t> number = parse_decimal(name);
  if (!number || *number > max) place.refuse("a decimal as its name, at most " + std::to_string(max));
  return *number;
}

Counters read_counters(const StateValue& value) {
  Counters counters;
  value.each_member([&](const std::string& experiment, const StateValue& generations) {
    generations.each_member([&](const std::string& generation_name, const StateValue& epochs) {
      const std::uint64_t generation = number_in(generation_name, epochs, std::numeric_limits<std::uint32_t>::max());
      epochs.each_member([&](const std::string& epoch_name, const StateValue& totals) {
        const std::uint64_t epoch = number_in(epoch_name, totals, std::numeric_limits<std::uint64_t>::max());
        counters[{experiment, static_cast<std::uint32_t>(generation), epoch}] = split(totals);
      });
    });
  });
  return counters;
}

}  // namespace

std::string pack_vector(const CounterVector& vector) {
  std::string out;
  for (const std::uint64_t total : vector) {
    if (!out.empty()) out += ',';
    out += std::to_string(total);
  }
  return out;
}

std::optional<CounterVector> unpack_vector(std::string_view text) {
  CounterVector vector;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::optional<std::uint64_t> total = parse_decimal(text.substr(0, comma));
    if (!total || comma + 1 == text.size()) return std::nullopt;
    vector.push_back(*total);
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
  }
  return vector;
}

int columns_of(const std::vector<GoalRecord>& goals, int count) {
  int columns = 1;
  for (int g = 0; g < std::min(count, static_cast<int>(goals.size())); ++g) {
    columns += goals[g].kind == bandit::GoalKind::kValue ? kValueColumns : 1;
  }
  return columns;
}

int column_of_goal(const std::vector<GoalRecord>& goals, int g) {
  return columns_of(goals, g);
}

void merge_max(Counters& into, const Counters& from) {
  for (const auto& [key, totals] : from) {
    CounterVector& kept = into[key];
    if (kept.size() < totals.size()) kept.resize(totals.size());
    for (std::size_t i = 0; i < totals.size(); ++i) kept[i] = std::max(kept[i], totals[i]);
  }
}

void add(Counters& into, const Counters& from) {
  for (const auto& [key, totals] : from) {
    CounterVector& sum = into[key];
    if (sum.size() < totals.size()) sum.resize(totals.size());
    for (std::size_t i = 0; i < totals.size(); ++i) sum[i] += totals[i];
  }
}

std::string encode_counters(std::string_view instance, const Counters& counters) {
  return seal_state({{"instance", instance}, {"counters", to_json(counters)}});
}

std::optional<DecodedCounters> decode_counters(std::string_view text, std::string& error) {
  const std::optional<json> state = open_state(text, error);
  if (!state) return std::nullopt;
  try {
    const StateValue value(*state);
    value.expect_members({"instance", "counters"});
    return DecodedCounters{value.at("instance").text(), read_counters(value.at("counters"))};
  } catch (const StateError& wrong) {
    error = wrong.text;
    return std::nullopt;
  }
}

std::string encode_folded(const FoldedCounters& folded) {
  return seal_state({{"instances", folded.instances}, {"counters", to_json(folded.counters)}});
}

std::optional<FoldedCounters> decode_folded(std::string_view text, std::string& error) {
  const std::optional<json> state = open_state(text, error);
  if (!state) return std::nullopt;
  try {
    const StateValue value(*state);
    value.expect_members({"instances", "counters"});
    FoldedCounters folded{{}, read_counters(value.at("counters"))};
    const StateValue instances = value.at("instances");
    instances.each_item([&](const StateValue& item) { folded.instances.insert(item.text()); });
    return folded;
  } catch (const StateError& wrong) {
    error = wrong.text;
    return std::nullopt;
  }
}

}  // namespace experiment::shared
