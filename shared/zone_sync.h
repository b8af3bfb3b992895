// Brings the zone in line with document and runtime: blocks, rows, epochs, tables, masks, and the image that workers
// compile.
//
// Used by the leader on the event loop, under the zone's mutex, whenever its conductor's state changed; in slices, so
// that a thousand experiments that change at once hold up no request. A leader that is killed between two slices leaves
// a zone that works: workers know nothing new before the image is published, and the next leader begins anew. What is
// already so is left alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "shared/conductor.h"
#include "shared/zone.h"

namespace experiment::shared {

// What is made of a conductor's state off the event loop: of a large document it takes milliseconds.
struct ZoneUpdate {
  std::vector<std::byte> image;  // all but the blocks
  std::string unsaved;           // what the store did not take; empty: it has all
};

class ZoneSync {
 public:
  // Says whether a slice has taken long enough; asked after each experiment.
  using Enough = std::function<bool()>;

  explicit ZoneSync(const Zone& zone);

  // Touches no zone, and may run in any thread.
  static ZoneUpdate prepare(const Conductor& conductor);
  // Begins to show the conductor's state, instead of what was under way. Kills hold at once; the rest is up to more().
  void begin(const Conductor& conductor, ZoneUpdate update);
  // Requires: the conductor's state is that of begin(). Returns: whether all is shown.
  bool more(const Conductor& conductor, const Enough& enough);
  bool under_way() const noexcept { return phase_ != Phase::kDone; }
  // Lines on what the zone had no room for, when all is shown.
  std::vector<std::string> take_lines() { return std::move(lines_); }
  // All of it in one go. Returns: the lines.
  std::vector<std::string> apply(const Conductor& conductor);
  // Seals and drops epochs, rotates the filter, frees what is retired: a slice of the experiments in each call.
  // Requires: nothing is under way. `alive` tells whether a worker's process is.
  // Returns: whether there is room again for something that there was none for.
  bool tidy(const Conductor& conductor, std::int64_t now_ms, bool (*alive)(std::uint32_t pid), const Enough& enough);

 private:
  enum class Phase : std::uint8_t { kDone, kRunning, kOthers, kImage };
  bool shows_document() const;
  void add_kills(const Conductor& conductor);
  void show_kills(const Runtime& runtime);
  Offset ensure(const Counters& own, const std::string& key, const ExperimentRuntime& state);
  bool bring(const Counters& own, const ExperimentRuntime& state, ExperimentBlock& block);
  bool is_behind(const ExperimentBlock& block, const ExperimentRuntime& state) const;
  void bring_one(const Conductor& conductor, std::size_t number);
  void tell_room();
  void publish_image(const Conductor& conductor);
  void show_best(const Conductor& conductor, const std::string& key, ExperimentBlock& block);
  bool drop_epochs(const Conductor& conductor, const bandit::Experiment& experiment, const ExperimentRuntime& state,
                   ExperimentBlock& block, std::int64_t now_ms);
  std::int64_t sealed_at(const bandit::Experiment& experiment, const ExperimentRuntime& state, EpochBlock& epoch,
                         std::int64_t now_ms);
  bool free_retired(const Conductor& conductor, std::int64_t now_ms, const Enough& enough);
  void index();
  Offset offset_of(const ExperimentBlock& block) const;
  ExperimentBlock* find(const std::string& key, std::uint32_t generation) const;

  Zone zone_;
  std::map<std::pair<std::string, std::uint32_t>, Offset> known_;
  // What is under way.
  Phase phase_ = Phase::kDone;
  std::size_t next_ = 0;  // of the document's experiments
  std::vector<std::byte> image_;
  bool room_ = false;                      // for experiments that do not run yet
  std::vector<std::string> off_, behind_;  // without room, for themselves or for their newest epoch
  std::vector<std::string> lines_;
  // What is shown.
  std::uint64_t shown_ = 0;  // hash of the image published last
  std::uint64_t document_version_ = 0;
  bool keeps_unsaved_ = true;  // the zone holds what the store did not take, perhaps a former leader's
  bool refused_ = false;       // there was too little room
  std::size_t tidied_ = 0;     // the experiment that the next tidy() begins with
  std::map<std::uint64_t, std::int64_t> unknown_;  // epochs that the runtime state does not have, by id: since when
  std::int64_t moved_on_ms_ = 0;                   // since when every worker has the newest plan; 0: not yet
};

}  // namespace experiment::shared
