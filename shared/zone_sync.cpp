#include "shared/zone_sync.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cmath>

#include "shared/plan_text.h"

namespace experiment::shared {
namespace {

// Behind its sealing, before an epoch's block may be used for something else: no request that found it open is still at
// it.
constexpr std::int64_t kSettleMs = 10 * 1000;
constexpr std::int64_t kKeepMs = 3600 * 1000;  // where the ring has room
constexpr int kRingAlmostFull = bandit::kEpochRing - 4;

std::uint64_t hash_of(const std::vector<ImageItem>& items) {
  std::uint64_t hash = items.size();
  for (const auto& item : items) {
    hash = XXH3_64bits_withSeed(item.text.data(), item.text.size(), hash);
    hash = XXH3_64bits_withSeed(&item.block, sizeof(item.block), hash);
  }
  return hash == 0 ? 1 : hash;
}

void set_mask(ExperimentBlock& block, std::uint32_t mask) {
  if (block.mask.load(std::memory_order_relaxed) != mask) block.mask.store(mask, std::memory_order_release);
}

}  // namespace

ZoneSync::ZoneSync(const Zone& zone) : zone_(zone) {
  index();
}

void ZoneSync::index() {
  known_.clear();
  auto* base = reinterpret_cast<std::byte*>(&zone_.header());
  for (ExperimentBlock* block : zone_.blocks()) {
    known_[{block->key, block->generation}] = static_cast<Offset>(reinterpret_cast<std::byte*>(block) - base);
  }
}

ExperimentBlock* ZoneSync::find(const std::string& key, std::uint32_t generation) const {
  auto found = known_.find({key, generation});
  return found == known_.end() ? nullptr : zone_.at<ExperimentBlock>(found->second);
}

Offset ZoneSync::ensure(const std::string& key, const ExperimentRuntime& state) {
  ExperimentBlock* block = find(key, state.generation);
  Offset offset = 0;
  if (block != nullptr) {
    offset = known_[{key, state.generation}];
  } else {
    offset = zone_.add_block(key, state.generation);
    if (offset == 0) return 0;
    known_[{key, state.generation}] = offset;
    block = zone_.at<ExperimentBlock>(offset);
  }
  set_mask(*block, kill_mask(state));
  if (!zone_.ensure_rows(*block, static_cast<int>(state.arms.size())) || !bring(key, state, *block)) {
    refused_ = true;
    // What runs is not put off for want of room: it goes on with the epoch it has.
    if (block->current.load(std::memory_order_relaxed) == 0) return 0;
  }
  block->retired.store(0, std::memory_order_release);
  return offset;
}

// Epochs that still take rewards, and the current one with its table.
bool ZoneSync::bring(const std::string&, const ExperimentRuntime& state, ExperimentBlock& block) {
  // Records pile up over the years, the ring does not: what it holds is looked up once.
  std::vector<std::uint64_t> held;
  for (const auto& place : block.epochs) {
    if (Offset offset = place.load(std::memory_order_relaxed); offset != 0)
      held.push_back(zone_.at<EpochBlock>(offset)->id);
  }
  std::sort(held.begin(), held.end());
  Offset shown = block.current.load(std::memory_order_relaxed);
  for (const EpochRecord& record : state.epochs) {
    bool here = std::binary_search(held.begin(), held.end(), record.id);
    if (record.sealed) {
      if (here) zone_.seal_epoch(block, record.id);
      continue;
    }
    bool current = &record == &state.epochs.back();
    if (!current) {
      if (!here && !zone_.ensure_epoch(block, record, state.goals, nullptr)) return false;
      continue;
    }
    if (shown != 0 && zone_.at<EpochBlock>(shown)->id == record.id) continue;
    auto table = bandit::decode_runs(state.runs, static_cast<int>(record.quotas.size()));
    if (!table || !zone_.ensure_epoch(block, record, state.goals, &*table)) return false;
  }
  return true;
}

class ZoneSync::Reserve {
 public:
  Reserve(const Zone& zone, const std::vector<ImageItem>& items)
      : arena_(zone.arena()), bytes_(Zone::image_bytes(items)) {
    for (Offset& offset : offsets_) offset = arena_.allocate(bytes_);
  }
  ~Reserve() {
    for (Offset offset : offsets_) {
      if (offset != 0) arena_.free(offset, bytes_);
    }
  }
  Reserve(const Reserve&) = delete;
  Reserve& operator=(const Reserve&) = delete;
  bool fits() const { return offsets_[0] != 0; }

 private:
  Arena arena_;
  std::uint64_t bytes_;
  std::array<Offset, 2> offsets_{};
};

bool ZoneSync::shows_document() const {
  Offset image = zone_.header().image.load(std::memory_order_relaxed);
  return image != 0 && zone_.at<DocumentImage>(image)->document_version != 0;
}

// What the conductor knows of kills comes on top of those in the zone; the numbers of arms are in the image.
void ZoneSync::add_kills(const Conductor& conductor) {
  const Runtime& runtime = conductor.runtime();
  if (!runtime.kill_all.empty()) zone_.header().kill_all.store(1, std::memory_order_release);
  const auto& image = *zone_.at<DocumentImage>(zone_.header().image.load(std::memory_order_relaxed));
  for (std::uint32_t i = 0; i < image.count && !runtime.experiments.empty(); ++i) {
    const ImageEntry& entry = image.entries[i];
    if (entry.block == 0) continue;
    std::string error;
    auto plan = decode_plan_text({reinterpret_cast<const char*>(&image) + entry.text_begin, entry.text_bytes}, error);
    auto state = plan ? runtime.experiments.find(plan->placed.experiment.key) : runtime.experiments.end();
    if (state == runtime.experiments.end()) continue;
    ExperimentRuntime numbered;
    numbered.arms = std::move(plan->arms);
    numbered.kills = state->second.kills;
    zone_.at<ExperimentBlock>(entry.block)->mask.fetch_or(kill_mask(numbered), std::memory_order_release);
  }
}

std::vector<std::string> ZoneSync::apply(const Conductor& conductor) {
  std::vector<std::string> lines;
  if (!conductor.has_read() && shows_document()) {
    add_kills(conductor);  // the rest goes on as it was until the store can be read
    return lines;
  }
  std::vector<ImageItem> items = texts_of(conductor);
  refused_ = false;
  bring_all(conductor, items, lines);
  const Runtime& runtime = conductor.runtime();
  // Kills hold too for experiments that the document dropped, and for former generations, while plans still know them.
  for (const auto& [name, offset] : known_) {
    auto state = runtime.experiments.find(name.first);
    if (state == runtime.experiments.end()) continue;
    auto* block = zone_.at<ExperimentBlock>(offset);
    std::uint32_t mask = kill_mask(state->second), numbers = block->mask.load(std::memory_order_relaxed);
    bool same = state->second.generation == name.second;
    set_mask(*block, same ? mask : (mask & kMaskExperiment) | (numbers & ~kMaskExperiment));
  }
  zone_.header().kill_all.store(runtime.kill_all.empty() ? 0 : 1, std::memory_order_release);
  publish_image(conductor, items, lines);
  zone_.header().adopted.store(1, std::memory_order_release);
  return lines;
}

// What workers are to compile, without the blocks.
std::vector<ImageItem> ZoneSync::texts_of(const Conductor& conductor) const {
  std::vector<ImageItem> items;
  const auto& parsed = conductor.document();
  const Runtime& runtime = conductor.runtime();
  for (std::size_t i = 0; i < parsed.document.experiments.size(); ++i) {
    const auto& experiment = parsed.document.experiments[i];
    auto state = runtime.experiments.find(experiment.key);
    ImageItem item;
    if (experiment.not_in_build.empty() && state != runtime.experiments.end()) {
      item.text = encode_plan_text(state->second, parsed.canonical[i]);
    } else {
      ExperimentRuntime numbers;  // enough for a worker to know it, and that it is off
      for (const auto& variant : experiment.variants) numbers.arms.push_back(variant.key);
      item.text = encode_plan_text(numbers, parsed.canonical[i]);
    }
    items.push_back(std::move(item));
  }
  return items;
}

bool ZoneSync::is_behind(const ExperimentBlock& block, const ExperimentRuntime& state) const {
  Offset current = block.current.load(std::memory_order_relaxed);
  return current != 0 && !state.epochs.empty() && zone_.at<EpochBlock>(current)->id != state.epochs.back().id;
}

// Those that run first, so that what is new never takes their room.
void ZoneSync::bring_all(const Conductor& conductor, std::vector<ImageItem>& items, std::vector<std::string>& lines) {
  const auto& experiments = conductor.document().document.experiments;
  const Runtime& runtime = conductor.runtime();
  Reserve reserve(zone_, items);
  std::vector<std::string> off, behind;
  for (bool runs : {true, false}) {
    for (std::size_t i = 0; i < items.size(); ++i) {
      const std::string& key = experiments[i].key;
      auto state = runtime.experiments.find(key);
      if (!experiments[i].not_in_build.empty() || state == runtime.experiments.end() || items[i].block != 0) continue;
      const ExperimentBlock* block = find(key, state->second.generation);
      if ((block != nullptr && block->current.load(std::memory_order_relaxed) != 0) != runs) continue;
      if (runs || reserve.fits()) items[i].block = ensure(key, state->second);
      if (items[i].block == 0) off.push_back(key);
      if (items[i].block != 0 && is_behind(*find(key, state->second.generation), state->second)) behind.push_back(key);
    }
  }
  zone_.header().zone_full.store(off.size());
  if (!behind.empty()) {
    lines.push_back("the zone has no room for the newest epoch of " + std::to_string(behind.size()) +
                    " experiments, the first is \"" + behind.front() +
                    "\"; they go on with the one before until there is");
  }
  if (off.empty()) return;
  refused_ = true;
  lines.push_back("the zone is full: " + std::to_string(off.size()) +
                  " experiments are off on this edge, the first is \"" + off.front() +
                  "\"; a larger experiment_zone is needed");
}

void ZoneSync::publish_image(const Conductor& conductor, const std::vector<ImageItem>& items,
                             std::vector<std::string>& lines) {
  std::uint64_t hash = hash_of(items);
  if (hash == shown_ && conductor.document_version() == document_version_) return;
  if (!zone_.publish_image(items, conductor.document_version())) {
    lines.push_back("the zone is full: definitions " + std::to_string(conductor.document_version()) +
                    " do not fit, version " + std::to_string(document_version_) +
                    " stays in use; a larger experiment_zone is needed");
    refused_ = true;
    return;
  }
  shown_ = hash;
  document_version_ = conductor.document_version();
  moved_on_ms_ = 0;
}

// What the store did not take stands in the zone, so that it does not end with its leader.
void ZoneSync::keep_unsaved(const Conductor& conductor) {
  std::uint64_t changes = conductor.unsaved() ? conductor.changes() + 1 : 0;
  if (changes == unsaved_changes_) return;
  unsaved_changes_ = changes;
  zone_.keep_unsaved(changes == 0 ? std::string() : encode_runtime(conductor.runtime()));
}

bool ZoneSync::tidy(const Conductor& conductor, std::int64_t now_ms, bool (*alive)(std::uint32_t pid)) {
  if (conductor.has_read()) keep_unsaved(conductor);
  zone_.filter().rotate_if_due(now_ms);
  for (const auto& experiment : conductor.document().document.experiments) {
    auto state = conductor.runtime().experiments.find(experiment.key);
    if (state == conductor.runtime().experiments.end()) continue;
    ExperimentBlock* block = find(experiment.key, state->second.generation);
    if (block == nullptr) continue;
    auto best = conductor.p_best().find(experiment.key);
    for (std::size_t arm = 0; arm < block->best_ppm.size(); ++arm) {
      double p = best != conductor.p_best().end() && arm < best->second.size() ? best->second[arm] : 0;
      block->best_ppm[arm].store(static_cast<std::uint32_t>(std::lround(p * 1e6)), std::memory_order_relaxed);
    }
  }
  bool room = drop_epochs(conductor, now_ms);
  zone_.drop_workers(alive);
  room = free_retired(conductor, now_ms) || room;
  return room && refused_;
}

// When the epoch was sealed; 0: it was not. One that another state of the runtime left here is sealed when it is found.
std::int64_t ZoneSync::sealed_at(const bandit::Experiment& experiment, const ExperimentRuntime& state,
                                 EpochBlock& epoch, std::int64_t now_ms) {
  auto record = std::lower_bound(state.epochs.begin(), state.epochs.end(), epoch.id,
                                 [](const auto& r, std::uint64_t id) { return r.id < id; });
  if (record != state.epochs.end() && record->id == epoch.id) {
    return record->sealed ? record->ended_ms + reward_window_ms(experiment) : 0;
  }
  epoch.state.store(EpochBlock::kSealed, std::memory_order_release);
  return unknown_.try_emplace(epoch.id, now_ms).first->second;
}

// Returns: whether one was dropped.
bool ZoneSync::drop_epochs(const Conductor& conductor, std::int64_t now_ms) {
  bool dropped = false;
  for (const auto& experiment : conductor.document().document.experiments) {
    auto state = conductor.runtime().experiments.find(experiment.key);
    if (state == conductor.runtime().experiments.end() || state->second.epochs.empty()) continue;
    ExperimentBlock* block = find(experiment.key, state->second.generation);
    if (block == nullptr) continue;
    auto held = std::count_if(block->epochs.begin(), block->epochs.end(),
                              [](const auto& place) { return place.load(std::memory_order_relaxed) != 0; });
    for (auto place = block->epochs.begin(); place != block->epochs.end(); ++place) {
      Offset offset = place->load(std::memory_order_relaxed);
      if (offset == 0 || offset == block->current.load(std::memory_order_relaxed)) continue;
      EpochBlock& epoch = *zone_.at<EpochBlock>(offset);
      std::uint64_t id = epoch.id;
      std::int64_t sealed = sealed_at(experiment, state->second, epoch, now_ms);
      bool stored = sealed != 0 && conductor.flushed_ms() > sealed + kSettleMs / 2;
      bool due = now_ms > sealed + (held >= kRingAlmostFull ? kSettleMs : kKeepMs);
      if (!stored || !due) continue;
      zone_.drop_epoch(*block, id);
      unknown_.erase(id);
      dropped = true;
      --held;
    }
  }
  return dropped;
}

// A retired block may go when no plan knows it any more and the totals that the store took are younger than that.
bool ZoneSync::free_retired(const Conductor& conductor, std::int64_t now_ms) {
  if (zone_.oldest_plan() < zone_.header().plan_version.load(std::memory_order_relaxed)) {
    moved_on_ms_ = 0;
  } else if (moved_on_ms_ == 0 || now_ms < moved_on_ms_) {  // or the clock was set back
    moved_on_ms_ = now_ms;
  } else if (conductor.flushed_ms() > moved_on_ms_ && zone_.free_retired() != 0) {
    index();
    return true;
  }
  return false;
}

}  // namespace experiment::shared
