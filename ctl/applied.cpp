#include "ctl/applied.h"

namespace experiment::ctl {
namespace {

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

Applied applied(const std::vector<Edge>& edges, std::uint64_t document, std::uint64_t runtime) {
  Applied out;
  for (const Edge& edge : edges) {
    if (!edge.speaks()) {
      out.silent.push_back(edge.name() + " for " + std::to_string(edge.age_s / 60) + " min");
      continue;
    }
    ++out.edges;
    if (edge.document >= document && edge.runtime >= runtime) {
      ++out.current;
    } else {
      out.lagging.push_back(edge.name() + ": document " + std::to_string(edge.document) + ", runtime " +
                            std::to_string(edge.runtime));
    }
  }
  return out;
}

std::string to_text(const Applied& applied) {
  std::string text;
  if (applied.edges > 0) {
    text = "applied on " + std::to_string(applied.current) + " of " + std::to_string(applied.edges) +
           (applied.edges == 1 ? " edge" : " edges");
    if (!applied.lagging.empty()) text += "; lagging: " + joined(applied.lagging);
    text += "\n";
  }
  if (!applied.silent.empty()) text += "silent, perhaps ended: " + joined(applied.silent) + "\n";
  return text;
}

nlohmann::json to_json(const Applied& applied) {
  return {
      {"edges", applied.edges}, {"current", applied.current}, {"lagging", applied.lagging}, {"silent", applied.silent}};
}

}  // namespace experiment::ctl
