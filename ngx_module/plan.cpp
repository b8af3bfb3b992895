#include "ngx_module/plan.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <numeric>

#include "shared/assignment_cookie.h"
#include "shared/cohort_token.h"
#include "shared/filter_key.h"
#include "shared/reconcile.h"

namespace experiment::ngx {
namespace {

using bandit::Reason;

bool matches(const std::string& pattern, const std::string& key) {
  if (pattern == "all") return true;
  if (pattern.back() == '*') return key.compare(0, pattern.size() - 1, pattern, 0, pattern.size() - 1) == 0;
  return pattern == key;
}

ngx_http_variable_value_t variable_value(std::string_view text) {
  ngx_http_variable_value_t value{};
  value.valid = 1;
  value.no_cacheable = 1;
  value.not_found = text.empty();
  value.len = static_cast<unsigned>(text.size()) & 0xfffffff;
  value.data = borrow(text).data;
  return value;
}

const shared::DocumentImage& image_of(const std::vector<std::byte>& bytes) {
  return *reinterpret_cast<const shared::DocumentImage*>(bytes.data());
}

// Goals of the document with the numbers and columns that the runtime state gave them.
std::vector<PlanGoal> goals_of(const shared::PlanText& text) {
  std::vector<PlanGoal> goals;
  for (std::size_t g = 0; g < text.goals.size(); ++g) {
    for (const auto& goal : text.placed.experiment.goals) {
      if (goal.key != text.goals[g].key) continue;
      goals.push_back({goal.key, static_cast<int>(g), shared::column_of_goal(text.goals, static_cast<int>(g)),
                       goal.kind, goal.per, goal.window_s, goal.scale, goal.max});
    }
  }
  return goals;
}

bool is_plain(const PlanExperiment& experiment, const Unit& unit) {
  bool cookie = std::any_of(unit.sources.begin(), unit.sources.end(),
                            [](const UnitSource& source) { return source.cookie.has_value(); });
  bool whole = std::all_of(experiment.arms.begin(), experiment.arms.end(),
                           [](const PlanArm& arm) { return !arm.variant.empty(); });
  return whole && !cookie && experiment.rule.open && experiment.rule.baseline.none() && !experiment.adaptive;
}

// Requires: those that are live.
PlanPlacement placement_of(const MainConf& conf, const Plan& plan, const std::vector<std::uint16_t>& live) {
  PlanPlacement placement;
  for (std::uint16_t index : live) {
    const PlanExperiment& experiment = *plan.experiments[index];
    bool plain = is_plain(experiment, *conf.units[static_cast<std::size_t>(experiment.unit)]);
    if (plain && placement.unit < 0) placement.unit = experiment.unit;
    static const std::atomic<std::uint32_t> kNotPlain{1};
    plain = plain && experiment.unit == placement.unit;
    placement.live.push_back({&experiment, experiment.block, plain ? &experiment.block->mask : &kNotPlain,
                              experiment.requests.data() + 1, bandit::Draws(experiment.rule.arm_seed),
                              experiment.identity, index, static_cast<std::uint8_t>(experiment.arms.size())});
  }
  placement.count = live.size();
  return placement;
}

}  // namespace

Reason Plan::off(std::size_t index) const noexcept {
  const PlanExperiment& experiment = *experiments[index];
  if (experiment.off != Reason::kSplit) return experiment.off;
  if (capped[index] != 0) return Reason::kCohortCap;
  if (experiment.rule.desired == bandit::Desired::kDraft) return Reason::kDraft;
  return experiment.active() ? Reason::kSplit : Reason::kStopped;
}

const std::vector<GoalUse>* Plan::find_goal(std::string_view key) const noexcept {
  auto place = std::lower_bound(goals.begin(), goals.end(), key,
                                [](const auto& goal, std::string_view k) { return goal.first < k; });
  return place != goals.end() && place->first == key ? &place->second : nullptr;
}

int Plan::find_variable(std::string_view name) const noexcept {
  for (std::size_t i = 0; i < experiments.size(); ++i) {
    const std::string& key = experiments[i]->key;
    bool same = key.size() == name.size() && std::equal(key.begin(), key.end(), name.begin(), [](char k, char n) {
                  return k == n || (k == '-' && n == '_');
                });
    if (same) return static_cast<int>(i);
  }
  return -1;
}

PlanBuilder::PlanBuilder(const MainConf& conf, const shared::Zone& zone, std::uint32_t stripe,
                         std::vector<std::byte> image, const Plan* before)
    : conf_(conf),
      zone_(zone),
      stripe_(stripe),
      image_(std::move(image)),
      before_(before),
      plan_(std::make_unique<Plan>()) {
  plan_->zone = zone;
  plan_->units = conf.units.size();
  plan_->version = image_of(image_).version;
  plan_->document_version = image_of(image_).document_version;
}

bool PlanBuilder::step(const Enough& enough) {
  const auto& image = image_of(image_);
  while (next_ < image.count) {
    const auto& entry = image.entries[next_];
    const auto* known =
        before_ != nullptr && next_ < before_->experiments.size() ? &before_->experiments[next_] : nullptr;
    bool same = known != nullptr && (*known)->text_hash == entry.text_hash && (*known)->block_offset == entry.block;
    std::string_view text(reinterpret_cast<const char*>(image_.data()) + entry.text_begin, entry.text_bytes);
    plan_->experiments.push_back(same ? *known : compile(entry, text));
    ++next_;
    if (!same && enough()) return false;
  }
  if (!resolved_) {
    resolve();
    resolved_ = true;
    if (enough()) return false;
  }
  // All are matched before one is placed: what one puts over its cap is off in all.
  while (named_.size() < conf_.placements.size()) {
    match(*conf_.placements[named_.size()]);
    if (enough()) return false;
  }
  while (plan_->placements.size() < named_.size()) {
    place(named_[plan_->placements.size()]);
    if (enough()) break;
  }
  return plan_->placements.size() == conf_.placements.size();
}

std::unique_ptr<Plan> PlanBuilder::take() {
  return std::move(plan_);
}

std::shared_ptr<const PlanExperiment> PlanBuilder::compile(const shared::ImageEntry& entry, std::string_view text) {
  auto made = std::make_shared<PlanExperiment>();
  made->text_hash = entry.text_hash;
  made->block_offset = entry.block;
  std::string error;
  auto parsed = shared::decode_plan_text(text, error);
  if (!parsed) {
    made->off = Reason::kError;
    warnings_.push_back("experiment in the zone cannot be read: " + error + "; it is off");
    return made;
  }
  const bandit::Experiment& experiment = parsed->placed.experiment;
  bandit::Document around;
  around.holdout = parsed->placed.holdout;
  if (parsed->placed.layer) around.layers.push_back(*parsed->placed.layer);
  made->key = experiment.key;
  made->rule = bandit::make_rule(around, experiment);
  made->tag = shared::experiment_tag(experiment.key, parsed->generation);
  made->identity = shared::experiment_identity(experiment.key, parsed->generation);
  made->adaptive = experiment.policy.adaptive();
  made->edge = experiment.render == bandit::Render::kEdge;
  made->control_cache_shared = experiment.control_cache_shared;
  made->goals = goals_of(*parsed);
  for (const auto& goal : made->goals)
    made->has_total |= goal.kind == bandit::GoalKind::kValue && goal.per == bandit::ValuePer::kTotal;

  shared::ExperimentRuntime numbers;
  numbers.arms = parsed->arms;
  std::vector<double> weights = shared::declared_weights(experiment, numbers);
  made->arms.resize(parsed->arms.size());
  for (const auto& variant : experiment.variants) {
    int arm = shared::arm_of(numbers, variant.key);
    if (arm < 0) continue;
    made->arms[static_cast<std::size_t>(arm)] = {variant.key,
                                                 shared::token_piece(experiment.key, variant.key, parsed->revision),
                                                 shared::member_piece(experiment.key, variant.key)};
  }
  for (std::size_t arm = 0; arm < made->arms.size(); ++arm) made->values[arm] = variable_value(made->arms[arm].variant);
  if (auto quotas = bandit::quotas_of(weights)) {
    int end = 0;
    for (int quota : *quotas) made->weight_ends.push_back(end += quota);
  }
  made->rule.control_arm =
      static_cast<std::uint8_t>(std::max(0, shared::arm_of(numbers, experiment.variants[experiment.control].key)));
  made->rule.winner_arm = static_cast<std::uint8_t>(std::max(0, shared::arm_of(numbers, experiment.winner)));

  for (std::size_t u = 0; u < conf_.units.size(); ++u) {
    if (conf_.units[u]->name == experiment.unit || (experiment.unit.empty() && u == 0))
      made->unit = static_cast<int>(u);
  }
  if (!experiment.not_in_build.empty()) {
    made->off = Reason::kNotInBuild;  // the leader said so when it read the document
  } else if (made->unit < 0) {
    made->off = Reason::kNoUnit;
    warnings_.push_back("experiment \"" + made->key + "\" is off on this edge: unit \"" + experiment.unit +
                        "\" is not declared by any experiment_unit");
  } else if (entry.block == 0) {
    made->off = Reason::kZoneFull;
  } else {
    made->block = zone_.at<shared::ExperimentBlock>(entry.block);
    made->counters = &zone_.counters(*made->block, stripe_);
    for (std::size_t row = 0; row <= made->arms.size(); ++row) {
      made->requests[row] = zone_.requests(*made->block, static_cast<int>(row), stripe_);
    }
  }
  return made;
}

void PlanBuilder::resolve() {
  plan_->variables.clear();  // memory may have run out half-way the last time
  plan_->capped.assign(plan_->experiments.size(), 0);
  rank();
  std::map<std::string, std::vector<GoalUse>> goals;
  for (std::size_t i = 0; i < plan_->experiments.size(); ++i) {
    const auto& experiment = *plan_->experiments[i];
    for (std::size_t g = 0; g < experiment.goals.size(); ++g) {
      goals[experiment.goals[g].key].push_back({static_cast<std::uint16_t>(i), static_cast<std::uint16_t>(g)});
    }
  }
  plan_->goals.assign(goals.begin(), goals.end());
  for (const auto& name : conf_.variable_keys) {
    plan_->variables.push_back(static_cast<std::int16_t>(plan_->find_variable(name)));
  }
}

void PlanBuilder::rank() {
  std::vector<std::uint16_t> order(plan_->experiments.size());
  std::iota(order.begin(), order.end(), std::uint16_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::uint16_t a, std::uint16_t b) { return plan_->experiments[a]->key < plan_->experiments[b]->key; });
  plan_->ranks.resize(order.size());
  for (std::size_t rank = 0; rank < order.size(); ++rank) plan_->ranks[order[rank]] = static_cast<std::uint16_t>(rank);
}

// Which experiments the placement names, in document order, and which of them would make too many cohorts. An
// experiment that is too much for one placement is off on the whole edge.
void PlanBuilder::match(const Placement& placement) {
  std::vector<std::uint16_t> named;
  double cohorts = 1;
  for (std::size_t i = 0; i < plan_->experiments.size(); ++i) {
    const auto& experiment = *plan_->experiments[i];
    bool matched = std::any_of(placement.patterns.begin(), placement.patterns.end(),
                               [&](const auto& pattern) { return matches(pattern, experiment.key); });
    if (!matched) continue;
    named.push_back(static_cast<std::uint16_t>(i));
    if (experiment.edge || plan_->off(i) != Reason::kSplit) continue;
    double with = cohorts * static_cast<double>(experiment.arms.size());
    if (with <= static_cast<double>(placement.cohort_max)) {
      cohorts = with;
      continue;
    }
    plan_->capped[i] = 1;
    warnings_.push_back("experiment \"" + experiment.key + "\" is off on this edge: with it the placement at " +
                        placement.place + " has more cohorts than experiment_cohort_max " +
                        std::to_string(placement.cohort_max));
  }
  named_.push_back(std::move(named));
}

void PlanBuilder::place(const std::vector<std::uint16_t>& named) {
  std::vector<std::uint16_t> live, off;
  for (std::uint16_t i : named) (plan_->off(i) == Reason::kSplit ? live : off).push_back(i);
  PlanPlacement placement = placement_of(conf_, *plan_, live);
  placement.named = !named.empty();
  placement.off = std::move(off);
  plan_->placements.push_back(std::move(placement));
}

}  // namespace experiment::ngx
