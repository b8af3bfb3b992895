#include "ctl/list.h"

#include <algorithm>
#include <cstdio>

#include "ctl/summary.h"

namespace experiment::ctl {
namespace {

std::string share_text(const Summary& summary) {
  std::string text;
  for (const RowTotals& variant : summary.variants) {
    char share[32] = "";
    if (summary.epoch != 0) std::snprintf(share, sizeof share, " %.2f %%", 100 * variant.share);
    text += (text.empty() ? "" : ", ") + variant.variant + (variant.killed ? " killed" : share);
  }
  return text;
}

nlohmann::json to_json(const Summary& summary) {
  nlohmann::json variants = nlohmann::json::array();
  for (const RowTotals& variant : summary.variants) {
    variants.push_back({{"key", variant.variant}, {"share", variant.share}, {"killed", variant.killed}});
  }
  return {{"key", summary.key},
          {"state", summary.state},
          {"why", summary.why},
          {"generation", summary.generation},
          {"variants", std::move(variants)}};
}

}  // namespace

int list(State& state) {
  Snapshot now;
  const int code = state.read(now);
  if (code != kOk) return code;
  const std::vector<Summary> summaries = summarize(now);
  std::size_t keys = 0, states = 0;
  for (const Summary& summary : summaries) {
    keys = std::max(keys, summary.key.size());
    states = std::max(states, summary.state.size());
  }
  std::string text;
  nlohmann::json experiments = nlohmann::json::array();
  for (const Summary& summary : summaries) {
    text += summary.key + std::string(keys - summary.key.size() + 2, ' ') + summary.state +
            std::string(states - summary.state.size() + 2, ' ') + share_text(summary) + "\n";
    experiments.push_back(to_json(summary));
  }
  return state.output().done(text,
                             {{"document_version", now.document_version}, {"experiments", std::move(experiments)}});
}

}  // namespace experiment::ctl
