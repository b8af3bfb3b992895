#include "shared/zone_sync.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cmath>

#include "shared/kills.h"
#include "shared/plan_text.h"

namespace experiment::shared {
namespace {

// Behind its sealing, before an epoch's block may be used for something else: no request that found it open is still at
// it.
constexpr std::int64_t kSettleMs = 10 * 1000;
constexpr std::int64_t kKeepMs = 3600 * 1000;  // where the ring has room
constexpr int kRingAlmostFull = bandit::kEpochRing - 4;

DocumentImage& image_of(std::vector<std::byte>& bytes) {
  return *reinterpret_cast<DocumentImage*>(bytes.data());
}

// The entries name their texts by hash, so they stand for the whole image.
std::uint64_t hash_of(const DocumentImage& image) {
  std::uint64_t hash = XXH3_64bits_withSeed(image.entries, sizeof(ImageEntry) * image.count, image.count);
  return hash == 0 ? 1 : hash;
}

// Runs as far as it is allowed to.
bool never() {
  return false;
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
  for (const ExperimentBlock* block : zone_.blocks()) known_[{block->key, block->generation}] = offset_of(*block);
}

Offset ZoneSync::offset_of(const ExperimentBlock& block) const {
  return static_cast<Offset>(reinterpret_cast<const std::byte*>(&block) -
                             reinterpret_cast<const std::byte*>(&zone_.header()));
}

ExperimentBlock* ZoneSync::find(const std::string& key, std::uint32_t generation) const {
  auto found = known_.find({key, generation});
  return found == known_.end() ? nullptr : zone_.at<ExperimentBlock>(found->second);
}

Offset ZoneSync::ensure(const Counters& own, const std::string& key, const ExperimentRuntime& state) {
  ExperimentBlock* block = find(key, state.generation);
  if (block == nullptr) {
    Offset offset = zone_.add_block(key, state.generation);
    if (offset == 0) return 0;
    known_[{key, state.generation}] = offset;
    block = zone_.at<ExperimentBlock>(offset);
  }
  set_mask(*block, kill_mask(state));
  if (!zone_.ensure_rows(*block, static_cast<int>(state.arms.size())) || !bring(own, state, *block)) {
    refused_ = true;
    // What runs is not put off for want of room: it goes on with the epoch it has.
    if (block->current.load(std::memory_order_relaxed) == 0) return 0;
  }
  block->retired.store(0, std::memory_order_release);
  return offset_of(*block);
}

// Epochs that still take rewards, and the current one with its table.
bool ZoneSync::bring(const Counters& own, const ExperimentRuntime& state, ExperimentBlock& block) {
  // Records pile up over the years, the ring does not: what it holds is looked up once.
  std::vector<std::uint64_t> held;
  for (const auto& place : block.epochs) {
    if (Offset offset = place.load(std::memory_order_relaxed); offset != 0)
      held.push_back(zone_.at<EpochBlock>(offset)->id);
  }
  std::sort(held.begin(), held.end());
  // An experiment may come back to epochs that the zone had dropped. The store keeps the larger of two totals of one
  // instance, so that these go on from where they were.
  auto counted = [&](const EpochRecord& record) -> const CounterVector* {
    auto known = own.find({block.key, block.generation, record.id});
    return known == own.end() ? nullptr : &known->second;
  };
  Offset shown = block.current.load(std::memory_order_relaxed);
  for (const EpochRecord& record : state.epochs) {
    bool here = std::binary_search(held.begin(), held.end(), record.id);
    if (record.sealed) {
      if (here) zone_.seal_epoch(block, record.id);
      continue;
    }
    bool current = &record == &state.epochs.back();
    if (!current) {
      if (!here && !zone_.ensure_epoch(block, record, state.goals, nullptr, counted(record))) return false;
      continue;
    }
    // A leader that begins with an older copy of the state, because the store is away, takes nothing back.
    if (shown != 0 && zone_.at<EpochBlock>(shown)->id >= record.id) continue;
    auto table = bandit::decode_runs(state.runs, static_cast<int>(record.quotas.size()));
    if (!table || !zone_.ensure_epoch(block, record, state.goals, &*table, counted(record))) return false;
  }
  return true;
}

bool ZoneSync::shows_document() const {
  Offset image = zone_.header().image.load(std::memory_order_relaxed);
  return image != 0 && zone_.at<DocumentImage>(image)->document_version != 0;
}

// What the conductor knows of kills comes on top of those in the zone; the numbers of arms are in the image.
void ZoneSync::add_kills(const Conductor& conductor) {
  const Runtime& runtime = conductor.runtime();
  if (any_stands(runtime.kill_all)) zone_.header().kill_all.store(1, std::memory_order_release);
  const auto& image = *zone_.at<DocumentImage>(zone_.header().image.load(std::memory_order_relaxed));
  for (std::uint32_t i = 0; i < image.count && !runtime.experiments.empty(); ++i) {
    const ImageEntry& entry = image.entries[i];
    if (entry.block == 0) continue;
    auto& block = *zone_.at<ExperimentBlock>(entry.block);
    auto state = runtime.experiments.find(std::string_view(block.key));
    if (state == runtime.experiments.end() || !any_stands(state->second.kills)) continue;
    std::string error;
    auto plan = decode_plan_text({reinterpret_cast<const char*>(&image) + entry.text_begin, entry.text_bytes}, error);
    if (!plan) continue;
    ExperimentRuntime numbered;
    numbered.arms = std::move(plan->arms);
    numbered.kills = state->second.kills;
    block.mask.fetch_or(kill_mask(numbered), std::memory_order_release);
  }
}

// Kills hold too for experiments that the document dropped, and for former generations, while plans still know them.
void ZoneSync::show_kills(const Runtime& runtime) {
  auto state = runtime.experiments.begin();
  for (const auto& [name, offset] : known_) {  // both are in the order of keys
    while (state != runtime.experiments.end() && state->first < name.first) ++state;
    if (state == runtime.experiments.end()) break;
    if (state->first != name.first) continue;
    auto* block = zone_.at<ExperimentBlock>(offset);
    std::uint32_t mask = kill_mask(state->second), numbers = block->mask.load(std::memory_order_relaxed);
    bool same = state->second.generation == name.second;
    set_mask(*block, same ? mask : (mask & kMaskExperiment) | (numbers & ~kMaskExperiment));
  }
  zone_.header().kill_all.store(any_stands(runtime.kill_all) ? 1 : 0, std::memory_order_release);
}

// What workers are to compile, and what the next leader would have to know.
ZoneUpdate ZoneSync::prepare(const Conductor& conductor) {
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
  return {Zone::make_image(items, conductor.document_version()),
          conductor.unsaved() ? encode_runtime(runtime) : std::string()};
}

void ZoneSync::begin(const Conductor& conductor, ZoneUpdate update) {
  phase_ = Phase::kDone;
  zone_.release_reserve();
  lines_.clear();
  if (!conductor.has_read() && shows_document()) {
    add_kills(conductor);  // the rest goes on as it was until the store can be read
    return;
  }
  show_kills(conductor.runtime());
  // What the store did not take stands in the zone, so that it does not end with its leader.
  if (conductor.has_read() && !update.unsaved.empty()) {
    zone_.keep_unsaved(update.unsaved);
    keeps_unsaved_ = true;
  }
  image_ = std::move(update.image);
  room_ = zone_.reserve_images(image_of(image_).bytes);
  off_.clear();
  behind_.clear();
  refused_ = false;
  next_ = 0;
  phase_ = Phase::kRunning;
}

// Those that run first, so that what is new never takes their room.
bool ZoneSync::more(const Conductor& conductor, const Enough& enough) {
  while (phase_ == Phase::kRunning || phase_ == Phase::kOthers) {
    if (next_ < image_of(image_).count) {
      bring_one(conductor, next_);
      ++next_;  // not before: it may run out of memory
    } else {
      phase_ = phase_ == Phase::kRunning ? Phase::kOthers : Phase::kImage;
      next_ = 0;
    }
    if (enough()) return false;
  }
  if (phase_ == Phase::kImage) {
    tell_room();
    publish_image(conductor);
    zone_.header().adopted.store(1, std::memory_order_release);
    image_ = {};
    phase_ = Phase::kDone;
  }
  return true;
}

std::vector<std::string> ZoneSync::apply(const Conductor& conductor) {
  begin(conductor, prepare(conductor));
  more(conductor, never);
  return take_lines();
}

bool ZoneSync::is_behind(const ExperimentBlock& block, const ExperimentRuntime& state) const {
  Offset current = block.current.load(std::memory_order_relaxed);
  return current != 0 && !state.epochs.empty() && zone_.at<EpochBlock>(current)->id < state.epochs.back().id;
}

void ZoneSync::bring_one(const Conductor& conductor, std::size_t number) {
  const bandit::Experiment& experiment = conductor.document().document.experiments[number];
  ImageEntry& entry = image_of(image_).entries[number];
  auto state = conductor.runtime().experiments.find(experiment.key);
  if (!experiment.not_in_build.empty() || state == conductor.runtime().experiments.end() || entry.block != 0) return;
  const ExperimentBlock* block = find(experiment.key, state->second.generation);
  bool runs = block != nullptr && block->current.load(std::memory_order_relaxed) != 0;
  if (runs != (phase_ == Phase::kRunning)) return;
  if (runs || room_) entry.block = ensure(conductor.own(), experiment.key, state->second);
  if (entry.block == 0) {
    off_.push_back(experiment.key);
  } else if (is_behind(*zone_.at<ExperimentBlock>(entry.block), state->second)) {
    behind_.push_back(experiment.key);
  }
}

void ZoneSync::tell_room() {
  zone_.header().zone_full.store(off_.size());
  if (!behind_.empty()) {
    lines_.push_back("the zone has no room for the newest epoch of " + std::to_string(behind_.size()) +
                     " experiments, the first is \"" + behind_.front() +
                     "\"; they go on with the one before until there is");
  }
  if (off_.empty()) return;
  refused_ = true;
  lines_.push_back("the zone is full: " + std::to_string(off_.size()) +
                   " experiments are off on this edge, the first is \"" + off_.front() +
                   "\"; a larger experiment_zone is needed");
}

void ZoneSync::publish_image(const Conductor& conductor) {
  zone_.release_reserve();
  std::uint64_t hash = hash_of(image_of(image_));
  if (hash == shown_ && conductor.document_version() == document_version_) return;
  if (!zone_.publish_image(image_)) {
    lines_.push_back("the zone is full: definitions " + std::to_string(conductor.document_version()) +
                     " do not fit, version " + std::to_string(document_version_) +
                     " stays in use; a larger experiment_zone is needed");
    refused_ = true;
    return;
  }
  shown_ = hash;
  document_version_ = conductor.document_version();
  moved_on_ms_ = 0;
}

bool ZoneSync::tidy(const Conductor& conductor, std::int64_t now_ms, bool (*alive)(std::uint32_t pid),
                    const Enough& enough) {
  if (conductor.has_read() && !conductor.unsaved() && keeps_unsaved_) {
    zone_.keep_unsaved({});
    keeps_unsaved_ = false;
  }
  zone_.filter().rotate_if_due(now_ms);
  zone_.drop_workers(alive);
  bool room = free_retired(conductor, now_ms, enough);
  const auto& experiments = conductor.document().document.experiments;
  for (std::size_t i = 0; i < experiments.size() && (i == 0 || !enough()); ++i, ++tidied_) {
    if (tidied_ >= experiments.size()) tidied_ = 0;
    const bandit::Experiment& experiment = experiments[tidied_];
    auto state = conductor.runtime().experiments.find(experiment.key);
    if (state == conductor.runtime().experiments.end()) continue;
    ExperimentBlock* block = find(experiment.key, state->second.generation);
    if (block == nullptr) continue;
    show_best(conductor, experiment.key, *block);
    room = drop_epochs(conductor, experiment, state->second, *block, now_ms) || room;
  }
  return room && refused_;
}

void ZoneSync::show_best(const Conductor& conductor, const std::string& key, ExperimentBlock& block) {
  auto best = conductor.p_best().find(key);
  for (std::size_t arm = 0; arm < block.best_ppm.size(); ++arm) {
    const bool known = best != conductor.p_best().end() && arm < best->second.size();
    const std::uint32_t ppm = known ? 1 + static_cast<std::uint32_t>(std::lround(best->second[arm] * 1e6)) : 0;
    block.best_ppm[arm].store(ppm, std::memory_order_relaxed);
  }
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
bool ZoneSync::drop_epochs(const Conductor& conductor, const bandit::Experiment& experiment,
                           const ExperimentRuntime& state, ExperimentBlock& block, std::int64_t now_ms) {
  if (state.epochs.empty()) return false;
  bool dropped = false;
  Offset current = block.current.load(std::memory_order_relaxed);
  auto held = std::count_if(block.epochs.begin(), block.epochs.end(),
                            [](const auto& place) { return place.load(std::memory_order_relaxed) != 0; });
  for (const auto& place : block.epochs) {
    Offset offset = place.load(std::memory_order_relaxed);
    if (offset == 0 || offset == current) continue;
    EpochBlock& epoch = *zone_.at<EpochBlock>(offset);
    std::uint64_t id = epoch.id;
    std::int64_t sealed = sealed_at(experiment, state, epoch, now_ms);
    bool stored = sealed != 0 && conductor.flushed_ms() > sealed + kSettleMs / 2;
    bool due = now_ms > sealed + (held >= kRingAlmostFull ? kSettleMs : kKeepMs);
    if (!stored || !due) continue;
    zone_.drop_epoch(block, id);
    unknown_.erase(id);
    dropped = true;
    --held;
  }
  return dropped;
}

// A retired block may go when no plan knows it any more and the totals that the store took are younger than that.
bool ZoneSync::free_retired(const Conductor& conductor, std::int64_t now_ms, const Enough& enough) {
  std::uint64_t oldest = zone_.oldest_plan();
  if (oldest < zone_.header().plan_version.load(std::memory_order_relaxed)) {
    moved_on_ms_ = 0;
    return false;
  }
  if (moved_on_ms_ == 0 || now_ms < moved_on_ms_) moved_on_ms_ = now_ms;  // or the clock was set back
  if (conductor.flushed_ms() <= moved_on_ms_) return false;
  bool freed = false;
  for (auto known = known_.begin(); known != known_.end();) {
    Offset offset = known->second;
    if (!Zone::is_forgotten(*zone_.at<ExperimentBlock>(offset), oldest)) {
      ++known;
      continue;
    }
    known = known_.erase(known);
    zone_.free_block(offset);
    freed = true;
    if (enough()) break;
  }
  return freed;
}

}  // namespace experiment::shared
