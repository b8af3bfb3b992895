#include "ctl/doctor.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

#include "ctl/applied.h"
#include "ctl/doctor_directory.h"
#include "ctl/doctor_redis.h"
#include "ctl/edges.h"
#include "ctl/finding.h"
#include "ctl/placements.h"
#include "ctl/target.h"
#include "shared/kill_file.h"
#include "shared/state_files.h"

namespace experiment::ctl {
namespace {

constexpr std::size_t kMaxKillFileBytes = std::size_t{1} << 20;
constexpr std::int64_t kMostSkewS = 150;  // reports are a minute apart

std::string joined(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

class Doctor {
 public:
  Doctor(const StoreArguments& arguments, State& state) : arguments_(arguments), state_(state) {}

  int run(bool load) {
    // First: without a library there is little to see.
    if (!arguments_.is_directory()) findings_ = examine_redis(arguments_, load);
    edges_ = read_edges(state_);
    examine_store();
    if (arguments_.is_directory()) {
      for (Finding& finding : examine_directory(arguments_.state, edges_)) findings_.push_back(std::move(finding));
      examine_hosts();
    }
    examine_kill_files();
    examine_keys();
    examine_clocks();
    for (const std::string& line : applied(edges_, now_.document_version, now_.runtime.version).lagging) {
      add("edge " + line + " is behind the store", "see its error log; it follows within a second where it can");
    }
    return tell();
  }

 private:
  void add(const std::string& what, const std::string& fix) { findings_.push_back({what, fix}); }

  void examine_store() {
    std::vector<std::string> errors;
    const bool readable = state_.look(now_, errors);
    for (const std::string& error : errors) add(error, "mend what it names");
    if (!readable) {
      add(state_.place() +
              ": the runtime state cannot be read: kills and allocations are unknown to a node that starts",
          "restore it from a copy, or move it away to begin anew, without any kill");
    }
    const std::string version = "definitions " + std::to_string(now_.stored.version);
    if (!now_.refusal.empty()) {
      add(version + " refused " + now_.refusal + "; the last good version holds", "correct it and publish it again");
    }
    if (now_.document_version == now_.stored.version) {
      for (const std::string& warning : now_.parsed.warnings) add(version + " " + warning, "correct it and publish it");
    }
    for (const std::string& line : unplaced(now_.parsed.document, edges_)) {
      add(line, "add it to nginx.conf, or stop the experiment");
    }
  }

  std::set<std::string> kill_files() const {
    std::set<std::string> paths;
    const auto gather = [&](const std::vector<shared::Kill>& kills) {
      for (const shared::Kill& kill : kills) {
        const std::string path(shared::kill_file_of(kill.by));
        if (kill.stands() && !path.empty()) paths.insert(path);
      }
    };
    gather(now_.runtime.kill_all);
    for (const auto& [key, experiment] : now_.runtime.experiments) gather(experiment.kills);
    return paths;
  }

  // Those that made a kill that stands; nobody knows of others.
  void examine_kill_files() {
    for (const std::string& path : kill_files()) {
      const shared::FileText file = shared::read_file(path, kMaxKillFileBytes);
      if (file.stamp.error == ENOENT) continue;
      if (!file.error.empty()) add(file.error, "nodes that use it must be able to read it");
      const shared::KillFile kills = shared::parse_kill_file(file.text);
      for (const std::string& error : kills.errors) add(path + " " + error, "correct the line");
      for (const shared::KillLine& line : kills.lines) {
        const std::string name = name_of({line.all, line.key, line.variant});
        add(path + " line " + std::to_string(line.line) + " still kills " + name,
            "when that is mended, remove the line and resume it");
      }
    }
  }

  void examine_keys() {
    std::map<std::string, std::set<std::string>> rings;
    for (const Edge& edge : edges_) {
      if (edge.speaks()) rings[edge.keys].insert(edge.name());
    }
    if (const auto none = rings.find(""); none != rings.end()) {
      add("no key ring on " + joined(none->second) + ": cookies are not signed there", "give them experiment_keys");
      rings.erase(none);
    }
    if (rings.size() < 2) return;
    std::string text = "key rings differ, so that edges refuse each other's cookies:";
    for (const auto& [ring, names] : rings) text += " " + ring + " on " + joined(names) + ";";
    add(text, "give all the same experiment_keys, in the same order");
  }

  void examine_clocks() {
    const Edge* behind = nullptr;
    const Edge* ahead = nullptr;
    const auto clock = [](const Edge& edge) { return *edge.at_s + edge.age_s; };
    for (const Edge& edge : edges_) {
      if (!edge.speaks() || !edge.at_s) continue;
      if (behind == nullptr || clock(edge) < clock(*behind)) behind = &edge;
      if (ahead == nullptr || clock(edge) > clock(*ahead)) ahead = &edge;
    }
    if (behind == nullptr || clock(*ahead) - clock(*behind) <= kMostSkewS) return;
    add("clocks differ: " + ahead->name() + " is " + std::to_string(clock(*ahead) - clock(*behind)) + " s ahead of " +
            behind->name() + "; epochs and reward windows go by them",
        "let both follow one time server");
  }

  void examine_hosts() {
    std::set<std::string> hosts;
    for (const Edge& edge : edges_) {
      if (edge.speaks() && !edge.host.empty()) hosts.insert(edge.host);
    }
    if (hosts.size() < 2) return;
    add("edges of " + std::to_string(hosts.size()) + " machines (" + joined(hosts) + ") report into " + state_.place() +
            "; a state directory is not shared between machines: its locks hold on one only",
        "give each machine a directory of its own");
  }

  int tell() const {
    std::string text;
    nlohmann::json findings = nlohmann::json::array();
    for (const Finding& finding : findings_) {
      text += finding.what + "\n  " + finding.fix + "\n";
      findings.push_back({{"what", finding.what}, {"fix", finding.fix}});
    }
    if (findings_.empty()) text = state_.place() + ": nothing to change\n";
    return state_.output().end(findings_.empty() ? kOk : kRefused, text, {{"findings", std::move(findings)}});
  }

  const StoreArguments& arguments_;
  State& state_;
  Snapshot now_;
  std::vector<Edge> edges_;
  std::vector<Finding> findings_;
};

}  // namespace

int doctor(const StoreArguments& arguments, bool load, State& state) {
  return Doctor(arguments, state).run(load);
}

}  // namespace experiment::ctl
