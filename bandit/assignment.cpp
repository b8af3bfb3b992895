#include "bandit/assignment.h"

namespace experiment::bandit {
namespace {

bool in_slice(const Rule& rule, std::uint64_t unit_hash) noexcept {
  if (rule.slice_begin == 0 && rule.slice_end == kSlots) return true;
  const int s = slot(draw(rule.layer_seed, unit_hash));
  return rule.slice_begin <= s && s < rule.slice_end;
}

}  // namespace

Reason closed_gate(const Rule& rule, std::uint64_t unit_hash) noexcept {
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

}  // namespace experiment::bandit
