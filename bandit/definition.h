// Experiments as values: what a definition document says, after it was checked and its defaults were filled in.
//
// Pure data without behaviour. `shared/definition_json` makes it from JSON; assignment, allocation and the module's
// plan read it. Shares and probabilities are in [0, 1]; times are in seconds; money is an integer of 10^-scale of the
// currency.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace experiment::bandit {

inline constexpr int kSlots = 10000;          // slots of an allocation table; propensity = slots / kSlots
inline constexpr int kMaxArms = 20;           // arms of one generation, dropped ones included
inline constexpr int kMaxGoals = 7;           // goals of one generation, dropped ones included
inline constexpr int kMaxExperiments = 5000;  // experiments of one document
inline constexpr int kMaxKeyBytes = 40;

enum class Desired : std::uint8_t { kDraft, kRunning, kFrozen, kStopped, kConcluded, kArchived };
enum class PolicyKind : std::uint8_t { kFixed, kThompson };
enum class GoalKind : std::uint8_t { kConversion, kValue };
enum class ValuePer : std::uint8_t { kFirst, kTotal };
enum class Render : std::uint8_t { kOrigin, kEdge };

struct Goal {
  std::string key;
  GoalKind kind = GoalKind::kConversion;
  ValuePer per = ValuePer::kFirst;     // value goals: the first order, or the total of a visitor
  std::uint32_t window_s = 7 * 86400;  // from the unit's first exposure
  std::uint8_t scale = 2;              // value goals: money counts in 10^-scale
  std::uint64_t max = 0;               // value goals: clip of the order or of the visitor's sum, in 10^-scale
  bool smaller_is_better = false;      // "direction": "down"
};

struct Variant {
  std::string key;
  double weight = 1;
  std::string payload;  // canonical JSON object, empty where there is none
};

struct WarmUp {
  std::uint64_t exposures = 100;  // of every arm with weight
  std::uint64_t successes = 25;
  std::uint32_t for_s = 86400;
};

struct Policy {
  PolicyKind kind = PolicyKind::kFixed;
  std::string goal;       // adaptive: the conversion goal that it maximises
  double floor = 0;       // least probability of an arm with weight
  double baseline = 0;    // share of control outside the bandit
  double step_limit = 1;  // largest total-variation change per epoch; 1: none
  std::uint32_t min_epoch_s = 60;
  std::uint32_t learn_window_s = 0;  // least age of an epoch's end before its counts enter
  WarmUp warm_up;
  bool adaptive() const { return kind != PolicyKind::kFixed; }
};

struct Experiment {
  std::string key;
  Desired desired = Desired::kDraft;
  std::string unit;               // empty: the first declared
  std::string salt;               // defaults to the key
  std::string layer;              // empty: none
  std::uint16_t slice_begin = 0;  // in slots of the layer, [begin, end)
  std::uint16_t slice_end = kSlots;
  double traffic = 1;
  Render render = Render::kOrigin;
  bool control_cache_shared = false;
  std::size_t control = 0;  // index into variants
  std::vector<Variant> variants;
  std::vector<Goal> goals;
  Policy policy;
  std::string winner;        // concluded: the variant everyone gets
  double holdback = 0;       // concluded: share that still sees the page as it is
  std::string not_in_build;  // names the feature that this build lacks; non-empty: the experiment is off
};

struct Layer {
  std::string key;
  std::string salt;  // defaults to the key
  double holdout = 0;
};

struct Document {
  double holdout = 0;
  std::vector<Layer> layers;
  std::vector<Experiment> experiments;  // in document order, which decides who goes first over a cap
};

}  // namespace experiment::bandit
