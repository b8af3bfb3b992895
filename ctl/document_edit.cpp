#include "ctl/document_edit.h"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace experiment::ctl {
namespace {

using nlohmann::ordered_json;

void apply(ordered_json& experiment, const DesiredEdit& edit) {
  experiment["desired"] = edit.desired;
  if (edit.winner.empty()) return;
  experiment["winner"] = edit.winner;
  experiment.erase("holdback");
  if (edit.holdback) experiment["holdback"] = *edit.holdback;
}

// As the text is written: by the indentation of its first indented line, or on one line.
std::string written_like(const std::string& text, const ordered_json& value) {
  const std::size_t end = text.find_last_not_of(" \t\r\n");
  if (text.substr(0, end).find('\n') == std::string::npos) {
    return value.dump() + text.substr(end + 1);
  }
  std::size_t indented = text.find("\n ");
  if (indented == std::string::npos) indented = text.find("\n\t");
  int width = 2;
  char blank = ' ';
  if (indented != std::string::npos) {
    blank = text[indented + 1];
    width = static_cast<int>(std::min<std::size_t>(8, text.find_first_not_of(blank, indented + 1) - indented - 1));
  }
  return value.dump(width, blank) + "\n";
}

}  // namespace

std::optional<std::string> edit_document(const std::string& text, const std::string& key, const DesiredEdit& edit) {
  ordered_json document = ordered_json::parse(text);
  for (ordered_json& experiment : document.at("experiments")) {
    if (experiment.at("key") != key) continue;
    const ordered_json before = experiment;
    apply(experiment, edit);
    return experiment == before ? text : written_like(text, document);
  }
  return std::nullopt;
}

}  // namespace experiment::ctl
