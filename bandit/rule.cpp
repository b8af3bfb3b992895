#include "bandit/rule.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

namespace experiment::bandit {
namespace {

constexpr std::array<std::string_view, static_cast<std::size_t>(Reason::kCount)> kReasonTokens{
    "split",  "sticky",     "baseline",   "concluded",   "unknown",      "draft",        "stopped",     "killed",
    "frozen", "holdout",    "holdback",   "layer",       "traffic",      "no_unit",      "no_identity", "no_memory",
    "bot",    "subrequest", "cohort_cap", "cookie_full", "variant_gone", "not_in_build", "zone_full",   "error"};
static_assert(!kReasonTokens.back().empty(), "every reason has a token");

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

std::uint64_t seed_of(std::string_view salt, std::string_view purpose) {
  std::string text(salt);
  text.push_back('\0');
  text.append(purpose);
  return XXH3_64bits(text.data(), text.size());
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
  rule.open = rule.desired == Desired::kRunning && rule.global_holdout.none() && rule.layer_holdout.none() &&
              rule.slice_begin == 0 && rule.slice_end == kSlots && rule.traffic.all();
  return rule;
}

}  // namespace experiment::bandit
