// An experiment's gates and draws, compiled once per document: what assignment.h needs to know for a decision, and the
// reasons that it gives.
//
// Plain values, made off the request path. Whatever hashes a string does so here.
#pragma once

#include <cstdint>
#include <string_view>

#include "bandit/definition.h"

namespace experiment::bandit {

enum class Reason : std::uint8_t {
  // enrolled
  kSplit,      // by the slot table
  kSticky,     // by the cookie's record
  kBaseline,   // control, outside the bandit
  kConcluded,  // everyone gets the winner
  // not enrolled
  kUnknown,  // no such experiment, or not placed here
  kDraft,
  kStopped,   // stopped or archived
  kKilled,    // the experiment or this unit's arm
  kFrozen,    // enrolment is closed and this unit was not in
  kHoldout,   // global or layer holdout
  kHoldback,  // concluded, kept out of the winner
  kLayer,     // another slice of the layer
  kTraffic,   // not admitted yet
  kNoUnit,
  kNoIdentity,  // has memory, but no pin and this is no navigation
  kNoMemory,    // adaptive without memory: shown, not counted (enrolled by the document's weights)
  kBot,
  kSubrequest,  // did not apply in the main request
  kCohortCap,
  kCookieFull,
  kVariantGone,  // pinned to a variant that the definition dropped
  kNotInBuild,
  kZoneFull,  // no counters, so not running
  kError,
  kCount
};
// Token of a reason, lower case with underscores, e.g. "no_identity".
std::string_view reason_token(Reason reason) noexcept;
constexpr bool is_enrolled(Reason r) noexcept {
  return r <= Reason::kConcluded || r == Reason::kNoMemory;
}

// Seed of a purpose: XXH3_64bits(salt + "\0" + purpose). Purposes: holdout layer traffic baseline arm holdback.
std::uint64_t seed_of(std::string_view salt, std::string_view purpose);

// A share in [0, 1] as a threshold, exact at both ends: below(h) is h < ceil(share * 2^64), always for share >= 1,
// never for share <= 0 or not a number.
class Share {
 public:
  constexpr Share() = default;
  explicit Share(double share) noexcept;
  bool below(std::uint64_t h) const noexcept { return all_ || h < threshold_; }
  bool none() const noexcept { return !all_ && threshold_ == 0; }
  bool all() const noexcept { return all_; }

 private:
  std::uint64_t threshold_ = 0;
  bool all_ = false;
};

// Everything that a decision needs to know of one experiment, compiled once per document. Arms are indices into the
// experiment's variants; who keeps arm numbers of a generation translates them.
struct Rule {
  std::uint64_t global_holdout_seed = 0, layer_holdout_seed = 0, layer_seed = 0;
  std::uint64_t traffic_seed = 0, baseline_seed = 0, arm_seed = 0, holdback_seed = 0;
  Share global_holdout, layer_holdout, traffic, baseline, holdback;
  std::uint16_t slice_begin = 0, slice_end = kSlots;
  bool has_layer = false;
  bool open = false;  // running, and no holdout, slice or traffic share keeps anyone out: gate() need not look
  Desired desired = Desired::kDraft;
  std::uint8_t control_arm = 0;
  std::uint8_t winner_arm = 0;
};
// A winner that names no variant is the control; a layer that the document does not list has its key as salt and no
// holdout.
Rule make_rule(const Document& document, const Experiment& experiment);

}  // namespace experiment::bandit
