#include "bandit/assignment.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace experiment::bandit {
namespace {

constexpr std::array<std::string_view, static_cast<std::size_t>(Reason::kCount)> kReasonTokens{
    "split",  "sticky",     "baseline",   "concluded",   "unknown",      "draft",        "stopped",     "killed",
    "frozen", "holdout",    "holdback",   "layer",       "traffic",      "no_unit",      "no_identity", "no_memory",
    "bot",    "subrequest", "cohort_cap", "cookie_full", "variant_gone", "not_in_build", "zone_full",   "error"};
static_assert(!kReasonTokens.back().empty(), "every reason has a token");

// Inlined into the gates: with the length a constant, a draw is a dozen instructions with two multiplications.
inline std::uint64_t seeded_draw(std::uint64_t seed, std::uint64_t unit_hash) noexcept {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  unit_hash = __builtin_bswap64(unit_hash);
#endif
  return XXH3_64bits_withSeed(&unit_hash, sizeof unit_hash, seed);
}

inline int slot_of(std::uint64_t h) noexcept {
  return static_cast<int>((static_cast<unsigned __int128>(h) * kSlots) >> 64);
}

// Most shares are none or all: those cost no draw.
inline bool falls_into(const Share& share, std::uint64_t seed, std::uint64_t unit_hash) noexcept {
  if (share.none()) return false;
  return share.all() || share.below(seeded_draw(seed, unit_hash));
}

inline bool in_slice(const Rule& rule, std::uint64_t unit_hash) noexcept {
  if (rule.slice_begin == 0 && rule.slice_end == kSlots) return true;
  const int s = slot_of(seeded_draw(rule.layer_seed, unit_hash));
  return rule.slice_begin <= s && s < rule.slice_end;
}

std::uint8_t arm_of(const Experiment& experiment, std::string_view variant) {
  for (std::size_t arm = 0; arm < experiment.variants.size(); ++arm) {
    if (experiment.variants[arm].key == variant) return static_cast<std::uint8_t>(arm);
  }
  return static_cast<std::uint8_t>(experiment.control);
}

void set_layer(Rule& rule, const Document& document, const Experiment& experiment) {
  const auto layer = std::find_if(document.layers.begin(), document.layers.end(),
                                  [&](const Layer& l) { return l.key == experiment.layer; });
  const bool listed = layer != document.layers.end();
  const std::string& salt = listed ? layer->salt : experiment.layer;
  rule.has_layer = true;
  rule.layer_seed = seed_of(salt, "layer");
  rule.layer_holdout_seed = seed_of(salt, "holdout");
  rule.layer_holdout = Share(listed ? layer->holdout : 0);
  rule.slice_begin = experiment.slice_begin;
  rule.slice_end = experiment.slice_end;
}

}  // namespace

std::string_view reason_token(Reason reason) noexcept {
  const auto i = static_cast<std::size_t>(reason);
  return i < kReasonTokens.size() ? kReasonTokens[i] : kReasonTokens.back();
}

std::uint64_t unit_hash(std::string_view unit_id) noexcept {
  return XXH3_64bits(unit_id.data(), unit_id.size());
}

std::uint64_t seed_of(std::string_view salt, std::string_view purpose) {
  std::string text(salt);
  text.push_back('\0');
  text.append(purpose);
  return XXH3_64bits(text.data(), text.size());
}

std::uint64_t draw(std::uint64_t seed, std::uint64_t unit_hash) noexcept {
  return seeded_draw(seed, unit_hash);
}

int slot(std::uint64_t h) noexcept {
  return slot_of(h);
}

Share::Share(double share) noexcept {
  if (!(share > 0)) return;
  all_ = share >= 1;
  // Exact: scaling by a power of two rounds nothing, and below 1 a double times 2^64 is at most 2^64 - 2^11.
  if (!all_) threshold_ = static_cast<std::uint64_t>(std::ceil(std::ldexp(share, 64)));
}

Rule make_rule(const Document& document, const Experiment& experiment) {
  Rule rule;
  rule.desired = experiment.desired;
  rule.global_holdout_seed = seed_of("", "holdout");
  rule.global_holdout = Share(document.holdout);
  if (!experiment.layer.empty()) set_layer(rule, document, experiment);
  rule.traffic_seed = seed_of(experiment.salt, "traffic");
  rule.traffic = Share(experiment.traffic);
  rule.baseline_seed = seed_of(experiment.salt, "baseline");
  rule.baseline = Share(experiment.policy.baseline);
  rule.arm_seed = seed_of(experiment.salt, "arm");
  rule.holdback_seed = seed_of(experiment.salt, "holdback");
  rule.holdback = Share(experiment.holdback);
  rule.control_arm = static_cast<std::uint8_t>(experiment.control);
  rule.winner_arm = arm_of(experiment, experiment.winner);
  return rule;
}

Reason gate(const Rule& rule, std::uint64_t unit_hash) noexcept {
  switch (rule.desired) {
    case Desired::kDraft:
      return Reason::kDraft;
    case Desired::kStopped:
    case Desired::kArchived:
      return Reason::kStopped;
    case Desired::kConcluded:
      // The test is over and its result ships: the winner is the page now, for everyone. Holdouts, slice and traffic
      // say who takes part in a test, so they end with it; a share that should go on without the winner is what the
      // holdback is for.
      return falls_into(rule.holdback, rule.holdback_seed, unit_hash) ? Reason::kHoldback : Reason::kConcluded;
    case Desired::kRunning:
    case Desired::kFrozen:
      break;
  }
  if (falls_into(rule.global_holdout, rule.global_holdout_seed, unit_hash)) return Reason::kHoldout;
  if (rule.has_layer) {
    if (falls_into(rule.layer_holdout, rule.layer_holdout_seed, unit_hash)) return Reason::kHoldout;
    if (!in_slice(rule, unit_hash)) return Reason::kLayer;
  }
  if (!falls_into(rule.traffic, rule.traffic_seed, unit_hash)) return Reason::kTraffic;
  return rule.desired == Desired::kFrozen ? Reason::kFrozen : Reason::kSplit;
}

bool in_baseline(const Rule& rule, std::uint64_t unit_hash) noexcept {
  return falls_into(rule.baseline, rule.baseline_seed, unit_hash);
}

int arm_slot(const Rule& rule, std::uint64_t unit_hash) noexcept {
  return slot_of(seeded_draw(rule.arm_seed, unit_hash));
}

}  // namespace experiment::bandit
