// Brings the zone in line with document and runtime: blocks, rows, epochs, tables, masks, and the image that workers
// compile.
//
// Used by the leader on the event loop, under the zone's mutex, whenever its conductor's state changed. What is already
// so is left alone.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "shared/conductor.h"
#include "shared/zone.h"

namespace experiment::shared {

class ZoneSync {
 public:
  explicit ZoneSync(const Zone& zone);

  // Returns: lines on what the zone has no room for.
  std::vector<std::string> apply(const Conductor& conductor);
  // Seals and drops epochs, rotates the filter, frees what is retired. `alive` tells whether a worker's process is.
  // Returns: whether there is room again for something that apply() had none for.
  bool tidy(const Conductor& conductor, std::int64_t now_ms, bool (*alive)(std::uint32_t pid));

 private:
  // Keeps two images' room free while blocks are made, or a full zone could never show a document without the
  // experiments that fill it.
  class Reserve;
  bool shows_document() const;
  void add_kills(const Conductor& conductor);
  Offset ensure(const std::string& key, const ExperimentRuntime& state);
  bool bring(const std::string& key, const ExperimentRuntime& state, ExperimentBlock& block);
  std::vector<ImageItem> texts_of(const Conductor& conductor) const;
  bool is_behind(const ExperimentBlock& block, const ExperimentRuntime& state) const;
  void bring_all(const Conductor& conductor, std::vector<ImageItem>& items, std::vector<std::string>& lines);
  void publish_image(const Conductor& conductor, const std::vector<ImageItem>& items, std::vector<std::string>& lines);
  bool drop_epochs(const Conductor& conductor, std::int64_t now_ms);
  std::int64_t sealed_at(const bandit::Experiment& experiment, const ExperimentRuntime& state, EpochBlock& epoch,
                         std::int64_t now_ms);
  bool free_retired(const Conductor& conductor, std::int64_t now_ms);
  void keep_unsaved(const Conductor& conductor);
  void index();
  ExperimentBlock* find(const std::string& key, std::uint32_t generation) const;

  Zone zone_;
  std::map<std::pair<std::string, std::uint32_t>, Offset> known_;
  std::uint64_t shown_ = 0;  // hash of the image published last
  std::uint64_t document_version_ = 0;
  std::uint64_t unsaved_changes_ = ~std::uint64_t{0};  // conductor's, of the state that the zone keeps; 0: none
  bool refused_ = false;                               // apply() had too little room
  std::map<std::uint64_t, std::int64_t> unknown_;      // epochs that the runtime state does not have, by id: since when
  std::int64_t moved_on_ms_ = 0;                       // since when every worker has the newest plan; 0: not yet
};

}  // namespace experiment::shared
