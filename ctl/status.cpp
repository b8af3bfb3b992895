#include "ctl/status.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <thread>
#include <vector>

#include "ctl/applied.h"
#include "ctl/edges.h"
#include "ctl/summary.h"

namespace experiment::ctl {
namespace {

using nlohmann::json;

constexpr auto kPause = std::chrono::seconds(2);  // of watch

// JSON null where there is nothing to divide by.
json ratio(double of, std::uint64_t n) {
  return n == 0 ? json() : json(of / static_cast<double>(n));
}

json to_json(const RowTotals& row) {
  json goals = json::object();
  for (const GoalTotals& goal : row.goals) {
    json& out = goals[goal.key];
    out = {{"rewarded", goal.rewarded}, {"rate", ratio(static_cast<double>(goal.rewarded), row.exposures)}};
    if (goal.value) {
      out["sum"] = goal.sum;
      out["mean"] = ratio(goal.sum, row.exposures);
    }
  }
  return {{"exposures", row.exposures}, {"goals", std::move(goals)}};
}

json to_json(const std::vector<shared::Kill>& kills) {
  json out = json::array();
  for (const shared::Kill& kill : kills) {
    if (!kill.stands()) continue;
    out.push_back({{"variant", kill.variant}, {"reason", kill.reason}, {"by", kill.by}, {"at", time_text(kill.at_s)}});
  }
  return out;
}

json to_json(const Summary& summary) {
  json variants = json::array();
  for (const RowTotals& row : summary.variants) {
    json out = to_json(row);
    out["key"] = row.variant;
    out["share"] = row.share;
    out["killed"] = row.killed;
    variants.push_back(std::move(out));
  }
  return {{"key", summary.key},
          {"state", summary.state},
          {"why", summary.why},
          {"generation", summary.generation},
          {"revision", summary.revision},
          {"epoch", summary.epoch},
          {"epochs", summary.epochs},
          {"open_epochs", summary.open_epochs},
          {"kills", to_json(summary.kills)},
          {"variants", std::move(variants)},
          {"baseline", to_json(summary.baseline)}};
}

template <typename... Values>
std::string format(const char* pattern, Values... values) {
  char text[256];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

std::string row_text(const char* name, const std::string& share, const RowTotals& row) {
  std::string text =
      format("    %-40s %8s %12llu", name, share.c_str(), static_cast<unsigned long long>(row.exposures));
  const double n = static_cast<double>(row.exposures);
  for (const GoalTotals& goal : row.goals) {
    text += format("   %s %llu", goal.key.c_str(), static_cast<unsigned long long>(goal.rewarded));
    if (row.exposures > 0) text += format(" (%.2f %%)", 100.0 * static_cast<double>(goal.rewarded) / n);
    if (goal.value) text += format(" sum %.2f", goal.sum);
  }
  return text + "\n";
}

std::string to_text(const Summary& summary) {
  std::string text = summary.key + ": " + summary.state + (summary.why.empty() ? "" : ": " + summary.why) + "\n";
  if (summary.epoch == 0) {
    text += "  no epoch yet\n";
  } else {
    text += format("  generation %u, epoch %llu, %zu of %zu epochs open\n", summary.generation,
                   static_cast<unsigned long long>(summary.epoch), summary.open_epochs, summary.epochs);
  }
  text += format("    %-40s %8s %12s   rewards\n", "variant", "share", "exposures");
  for (const RowTotals& row : summary.variants) {
    const std::string share = row.killed ? "killed" : format("%.2f %%", 100 * row.share);
    text += row_text(row.variant.c_str(), share, row);
  }
  if (summary.baseline.exposures > 0) text += row_text("(baseline: control)", "", summary.baseline);
  return text;
}

}  // namespace

int status(const std::string& key, State& state) {
  Output& output = state.output();
  Snapshot now;
  const int code = state.read(now, true);
  if (code != kOk) return code;
  const Applied where = applied(read_edges(state), now.document_version, now.runtime.version);
  std::string text = format("document %llu, runtime %llu\n", static_cast<unsigned long long>(now.document_version),
                            static_cast<unsigned long long>(now.runtime.version));
  text += to_text(where);
  for (const shared::Kill& kill : now.runtime.kill_all) {
    if (!kill.stands()) continue;
    text += "everything is killed: " + kill.reason + " (by " + kill.by + " at " + time_text(kill.at_s) + ")\n";
  }
  json experiments = json::array();
  for (const Summary& summary : summarize(now)) {
    if (!key.empty() && summary.key != key) continue;
    text += to_text(summary);
    experiments.push_back(to_json(summary));
    if (summary.skipped_vectors > 0) {
      output.warn(format("%s: counts of %llu epochs are left out, the runtime state no longer has them",
                         summary.key.c_str(), static_cast<unsigned long long>(summary.skipped_vectors)));
    }
  }
  if (!key.empty() && experiments.empty())
    return output.fail(kNothing, "no experiment \"" + key + "\" in " + state.place());
  return output.done(text, {{"document_version", now.document_version},
                            {"runtime_version", now.runtime.version},
                            {"applied", to_json(where)},
                            {"kill_all", to_json(now.runtime.kill_all)},
                            {"experiments", std::move(experiments)}});
}

int watch(const std::string& key, State& state) {
  const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  for (;;) {
    if (terminal) std::cout << "\x1b[H\x1b[2J";
    const int code = status(key, state);
    if (code == kNothing) return code;
    if (!std::cout.flush()) return kUnreachable;  // nobody reads on
    std::this_thread::sleep_for(kPause);
    if (!terminal) std::cout << '\n';
    state.output().forget();
  }
}

}  // namespace experiment::ctl
