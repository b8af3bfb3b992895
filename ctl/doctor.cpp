#include "ctl/doctor.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

#include "ctl/applied.h"
#include "ctl/doctor_directory.h"
#include "ctl/doctor_redis.h"
#include "ctl/doctor_rings.h"
#include "ctl/edges.h"
#include "ctl/finding.h"
#include "ctl/placements.h"
#include "ctl/target.h"
#include "shared/kill_file.h"
#include "shared/redis_library.h"
#include "shared/state_files.h"

namespace experiment::ctl {
namespace {

constexpr std::size_t kMaxKillFileBytes = std::size_t{1} << 20;
constexpr std::int64_t kMostSkewS = 150;  // reports are a minute apart

nlohmann::json to_json(const std::vector<Finding>& findings) {
  nlohmann::json out = nlohmann::json::array();
  for (const Finding& finding : findings) out.push_back({{"what", finding.what}, {"fix", finding.fix}});
  return out;
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
    } else {
      examine_libraries();
    }
    examine_kill_files();
    for (Finding& finding : examine_rings(edges_, notes_)) findings_.push_back(std::move(finding));
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

  // Redis has one library; which functions it must have is up to the release of each edge.
  void examine_libraries() {
    std::map<std::uint64_t, std::set<std::string>> versions;
    for (const Edge& edge : edges_) {
      if (edge.speaks()) versions[edge.library].insert(edge.name());
    }
    if (versions.empty()) return;
    const std::uint64_t newest = versions.rbegin()->first;
    if (versions.size() > 1) {
      std::string text;
      for (const auto& [version, names] : versions)
        text += (text.empty() ? "" : "; ") + std::to_string(version) + " on " + joined(names);
      add("edges call different versions of the library: " + text,
          "experimentctl doctor --load of the newest release, which serves the others too; then upgrade those");
    }
    if (newest > static_cast<std::uint64_t>(shared::kLibraryVersion)) {
      add("edges call version " + std::to_string(newest) + " of the library, this experimentctl is for version " +
              std::to_string(shared::kLibraryVersion),
          "use the experimentctl of their release, above all for doctor --load");
    }
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
    for (const Finding& finding : findings_) text += finding.what + "\n  " + finding.fix + "\n";
    if (findings_.empty()) text = state_.place() + ": nothing to change\n";
    for (const Finding& note : notes_) text += "note: " + note.what + "\n  " + note.fix + "\n";
    return state_.output().end(findings_.empty() ? kOk : kRefused, text,
                               {{"findings", to_json(findings_)}, {"notes", to_json(notes_)}});
  }

  const StoreArguments& arguments_;
  State& state_;
  Snapshot now_;
  std::vector<Edge> edges_;
  std::vector<Finding> findings_;
  std::vector<Finding> notes_;  // that nothing has to be done about
};

}  // namespace

int doctor(const StoreArguments& arguments, bool load, State& state) {
  return Doctor(arguments, state).run(load);
}

}  // namespace experiment::ctl
