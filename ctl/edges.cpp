#include "ctl/edges.h"

#include <algorithm>
#include <utility>

namespace experiment::ctl {
namespace {

using nlohmann::json;

constexpr std::size_t kShownOfInstance = 8;

std::string text_of(const json& object, const char* name) {
  const auto member = object.find(name);
  return member != object.end() && member->is_string() ? member->get<std::string>() : std::string();
}

std::uint64_t number_of(const json& object, const char* name) {
  const auto member = object.find(name);
  return member != object.end() && member->is_number_unsigned() ? member->get<std::uint64_t>() : 0;
}

std::vector<std::string> texts_of(const json& object, const char* name) {
  std::vector<std::string> texts;
  const auto member = object.find(name);
  if (member == object.end() || !member->is_array()) return texts;
  for (const json& item : *member) {
    if (item.is_string() && !item.get_ref<const std::string&>().empty()) texts.push_back(item.get<std::string>());
  }
  return texts;
}

std::vector<Placement> placements_of(const json& report) {
  std::vector<Placement> placements;
  const auto member = report.find("placements");
  if (member == report.end() || !member->is_array()) return placements;
  for (const json& item : *member) {
    if (item.is_object()) placements.push_back({texts_of(item, "patterns"), text_of(item, "place")});
  }
  return placements;
}

Edge edge_of(const shared::EdgeReport& report, const json& value) {
  Edge edge;
  edge.instance = report.instance;
  edge.age_s = report.age_s;
  edge.host = text_of(value, "host");
  edge.keys = text_of(value, "keys");
  edge.ring = texts_of(value, "ring");
  edge.library = std::max<std::uint64_t>(1, number_of(value, "library"));
  edge.document = number_of(value, "document");
  edge.runtime = number_of(value, "runtime");
  if (const std::uint64_t at_s = number_of(value, "at_s"); at_s != 0) edge.at_s = static_cast<std::int64_t>(at_s);
  edge.placements = placements_of(value);
  edge.units = texts_of(value, "units");
  return edge;
}

}  // namespace

std::string Edge::name() const {
  const std::string id = instance.substr(0, kShownOfInstance);
  return host.empty() ? id : host + " (" + id + ")";
}

std::vector<Edge> read_edges(State& state) {
  std::vector<Edge> edges;
  std::string error;
  for (const shared::EdgeReport& report : state.store().edges(error)) {
    const json value = json::parse(report.text, nullptr, false);
    if (value.is_object()) {
      edges.push_back(edge_of(report, value));
    } else {
      state.output().warn("the report of edge " + report.instance + " is no JSON object; left out");
    }
  }
  if (!error.empty()) state.output().warn(error);
  return edges;
}

}  // namespace experiment::ctl
