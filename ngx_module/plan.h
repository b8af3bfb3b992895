// The plan: the document compiled for one worker, against its zone and its configuration. Requests read nothing else.
//
// Built off the request path in bounded slices (PlanBuilder), then swapped whole; what did not change is shared with
// the plan before. A plan lives until the last request that pinned it is gone.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bandit/assignment.h"
#include "ngx_module/conf.h"
#include "shared/plan_text.h"
#include "shared/recent.h"
#include "shared/zone.h"

namespace experiment::ngx {

struct PlanGoal {
  std::string key;
  int number = 0;  // of the generation, also its mark's number
  int column = 0;  // of c in a row of counters
  bandit::GoalKind kind = bandit::GoalKind::kConversion;
  bandit::ValuePer per = bandit::ValuePer::kFirst;
  std::uint32_t window_s = 0;
  std::uint8_t scale = 2;
  std::uint64_t max = 0;
};

struct PlanArm {
  std::string variant;  // empty: dropped by the document
  std::string token;    // its piece of the cohort token
  std::string member;   // its member of the assignments
};

struct PlanExperiment {
  std::string key;
  std::uint64_t text_hash = 0;  // of the text it was compiled from
  shared::Offset block_offset = 0;
  shared::ExperimentBlock* block = nullptr;  // nullptr: the zone was full, or the experiment is off
  shared::ExperimentCounters* counters = nullptr;
  std::array<shared::RequestCounters*, bandit::kMaxArms + 1> requests{};  // by row
  bandit::Reason off = bandit::Reason::kSplit;  // kNotInBuild, kZoneFull, kNoUnit: why it is off on this edge
  bandit::Rule rule;
  std::uint32_t tag = 0;       // names the generation in cookies
  std::uint64_t identity = 0;  // 64 bits of the same, for keys of the rotating filter
  int unit = -1;               // index into MainConf::units
  bool adaptive = false;
  bool edge = false;  // render: edge, no part of the cohort
  bool control_cache_shared = false;
  bool has_total = false;
  std::vector<PlanArm> arms;
  std::array<ngx_http_variable_value_t, bandit::kMaxArms> values{};  // by arm: of its variable
  std::vector<int> weight_ends;  // by arm: end of its slots in the contiguous table of the document's weights
  std::vector<PlanGoal> goals;   // those of the document

  bool active() const noexcept {
    return rule.desired == bandit::Desired::kRunning || rule.desired == bandit::Desired::kFrozen ||
           rule.desired == bandit::Desired::kConcluded;
  }
};

struct GoalUse {
  std::uint16_t experiment;
  std::uint16_t goal;  // index into PlanExperiment::goals
};

// An experiment in a placement, with what most decisions need in one place.
struct Placed {
  const PlanExperiment* experiment;
  const shared::ExperimentBlock* block;
  // Its mask where it is plain, else a word that is never 0. Plain: of the placement's unit, which no cookie remembers,
  // and the slot table says it all: no gate, no baseline, no arm that was dropped.
  const std::atomic<std::uint32_t>* plain_mask;
  shared::RequestCounters* const* requests;  // by arm
  bandit::Draws arm_draws;
  std::uint64_t identity;
  std::uint16_t index;  // into Plan::experiments
  std::uint8_t arms;    // that the plan knows; the zone's table may be younger
};

// What a location's experiment directive names.
struct PlanPlacement {
  bool named = false;              // by at least one definition
  std::vector<std::uint16_t> off;  // experiments that are off for everyone, ascending
  int unit = -1;                   // of the plain ones
  std::vector<Placed> live;  // in document order, without those that are off for everyone: they cost a request nothing
  std::size_t count = 0;     // of them
};

struct Plan {
  shared::Zone zone;                 // of this worker
  shared::Recent* recent = nullptr;  // of this worker
  std::size_t units = 0;             // that its configuration declares
  std::uint64_t version = 0;
  std::uint64_t document_version = 0;
  std::uint32_t references = 0;                                     // requests that pinned it, and the worker itself
  std::vector<std::shared_ptr<const PlanExperiment>> experiments;   // in document order
  std::vector<std::uint8_t> capped;                                 // by experiment: off by experiment_cohort_max
  std::vector<std::uint16_t> ranks;                                 // by experiment: its place in the order of keys
  std::vector<PlanPlacement> placements;                            // by Placement::number
  std::vector<std::int16_t> variables;                              // by slot of a prefix variable: experiment, or -1
  std::vector<std::pair<std::string, std::vector<GoalUse>>> goals;  // sorted by goal key

  // Why the experiment is off for everyone here; kSplit: it is not.
  bandit::Reason off(std::size_t experiment) const noexcept;
  // Uses of a goal; nullptr: no definition has it.
  const std::vector<GoalUse>* find_goal(std::string_view key) const noexcept;
  // By the name in a variable: the key with underscores. -1: none.
  int find_variable(std::string_view name) const noexcept;
};

// Compiles an image in slices, so that no worker blocks while a large document changes.
class PlanBuilder {
 public:
  PlanBuilder(const MainConf& conf, const shared::Zone& zone, std::uint32_t stripe, std::vector<std::byte> image,
              const Plan* before);
  // Says whether a slice has taken long enough; asked after each experiment and each placement.
  using Enough = std::function<bool()>;
  // True: the plan is complete, take() it. May throw std::bad_alloc.
  bool step(const Enough& enough);
  std::unique_ptr<Plan> take();
  // One line for each experiment that is off on this edge or could not be compiled.
  const std::vector<std::string>& warnings() const noexcept { return warnings_; }
  std::uint64_t version() const noexcept { return plan_->version; }

 private:
  std::shared_ptr<const PlanExperiment> compile(const shared::ImageEntry& entry, std::string_view text);
  void resolve();
  void rank();
  void match(const Placement& placement);
  void place(const std::vector<std::uint16_t>& named);

  const MainConf& conf_;
  const shared::Zone& zone_;
  std::uint32_t stripe_;
  std::vector<std::byte> image_;
  const Plan* before_;
  std::unique_ptr<Plan> plan_;
  std::size_t next_ = 0;
  bool resolved_ = false;
  std::vector<std::vector<std::uint16_t>> named_;  // experiments by Placement::number
  std::vector<std::string> warnings_;
};

}  // namespace experiment::ngx
