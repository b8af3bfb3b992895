#include "ctl/history.h"

#include <string>

namespace experiment::ctl {
namespace {

nlohmann::json to_json(const shared::DocumentVersion& document) {
  return {{"version", document.version},
          {"at", document.at_s == 0 ? "" : time_text(document.at_s)},
          {"by", document.by},
          {"bytes", document.text.size()}};
}

std::string to_text(const shared::DocumentVersion& document) {
  return std::to_string(document.version) + "  " +
         (document.at_s == 0 ? "at an unknown time" : time_text(document.at_s)) + "  by " +
         (document.by.empty() ? "hand" : document.by) + "  " + std::to_string(document.text.size()) + " bytes\n";
}

}  // namespace

int history(std::uint64_t version, State& state) {
  Output& output = state.output();
  std::string error, text;
  nlohmann::json versions = nlohmann::json::array();
  for (const shared::DocumentVersion& document : state.store().history(error)) {
    if (version != 0 && document.version == version) {
      nlohmann::json result = to_json(document);
      result["text"] = document.text;
      return output.done(document.text, std::move(result));
    }
    text += to_text(document);
    versions.push_back(to_json(document));
  }
  if (!error.empty() && versions.empty()) return output.fail(kUnreachable, error);
  if (!error.empty()) output.warn(error);
  if (version != 0) {
    return output.fail(kNothing, "no version " + std::to_string(version) + " of the definitions in " + state.place());
  }
  return output.done(text, {{"versions", std::move(versions)}});
}

}  // namespace experiment::ctl
