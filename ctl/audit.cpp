#include "ctl/audit.h"

#include <string>

namespace experiment::ctl {

int audit(std::size_t most, State& state) {
  std::string error, text;
  nlohmann::json entries = nlohmann::json::array();
  for (const shared::AuditEntry& entry : state.store().audit(most, error)) {
    text += time_text(entry.at_s) + "  " + entry.verb + (entry.target.empty() ? "" : " " + entry.target) + "  by " +
            entry.by;
    if (!entry.reason.empty()) text += ": " + entry.reason;
    if (!entry.detail.empty()) text += " (" + entry.detail + ")";
    text += "\n";
    entries.push_back({{"at", time_text(entry.at_s)},
                       {"by", entry.by},
                       {"verb", entry.verb},
                       {"target", entry.target},
                       {"reason", entry.reason},
                       {"detail", entry.detail}});
  }
  if (!error.empty() && entries.empty()) return state.output().fail(kUnreachable, error);
  if (!error.empty()) state.output().warn(error);
  return state.output().done(text, {{"entries", std::move(entries)}});
}

}  // namespace experiment::ctl
