#include "ngx_module/metrics_text.h"

#include <charconv>
#include <cmath>

namespace experiment::ngx {
namespace {

using bandit::Reason;
using shared::Counter;
using AllCounters = shared::ExperimentCounters;
using NodeCounters = shared::NodeCounters;
using RowCounters = shared::RequestCounters;

constexpr int kSteps = 256;  // of one piece: an arm that has nothing to say costs time, too

enum class Scope { kNode, kStore, kExperiment, kRow };

class Lines;

struct Family {
  Scope scope;
  std::string_view name, type, help;
  void (*write)(Lines& lines) noexcept;  // the samples of one row, of one experiment, or of the node
};

// number / 10^places
struct Decimal {
  std::uint64_t number;
  int places;
};

// The lines of one family for the node, for an experiment or for one of its rows, and what they are made from.
class Lines {
 public:
  Lines(const Family& family, const Plan& plan, const shared::Zone& zone, char* begin, char* end) noexcept
      : plan(plan), zone(zone), node(&zone.node(0)), family_(family), at_(begin), end_(end) {}

  const Plan& plan;
  const shared::Zone& zone;
  // Of the first stripe; see sum().
  const NodeCounters* node;
  const PlanExperiment* experiment = nullptr;
  const AllCounters* all = nullptr;
  const RowCounters* row = nullptr;
  int arm = -1;  // -1: the baseline

  // False: it has nothing to show.
  bool select(const PlanExperiment& chosen) noexcept {
    experiment = &chosen;
    if (chosen.block != nullptr) all = &zone.counters(*chosen.block, 0);
    return all != nullptr;
  }
  bool select_row(std::size_t number) noexcept {
    arm = static_cast<int>(number) - 1;
    variant_ = arm < 0 ? std::string_view("@baseline") : std::string_view(experiment->arms[number - 1].variant);
    row = zone.requests(*experiment->block, static_cast<int>(number), 0);
    if (row == nullptr || variant_.empty()) return false;
    return arm >= 0 || !experiment->rule.baseline.none() || sum(row, row->exposures) != 0;
  }

  // Over the stripes, whose counters lie behind each other: of all of them the one that is `counter` in the first.
  template <typename Counters>
  std::uint64_t sum(const Counters* first, const Counter& counter) const noexcept {
    static_assert(sizeof(Counters) % sizeof(Counter) == 0);
    auto field = &counter - reinterpret_cast<const Counter*>(first);
    std::uint64_t value = 0;
    for (std::uint32_t s = 0; s < zone.header().stripes; ++s)
      value += reinterpret_cast<const Counter*>(first + s)[field].load(std::memory_order_relaxed);
    return value;
  }

  void add(Decimal value) noexcept { add({}, {}, {}, value); }
  void add(std::uint64_t value) noexcept { add(Decimal{value, 0}); }
  void add(std::string_view label, std::string_view text, std::uint64_t value) noexcept {
    add({}, label, text, {value, 0});
  }
  // A line: name and suffix, experiment and variant, one more label unless it is empty.
  void add(std::string_view suffix, std::string_view label, std::string_view text, Decimal value) noexcept {
    put("nginx_experiment_", family_.name, suffix);
    if (experiment != nullptr) put("{experiment=\"", experiment->key);
    if (row != nullptr) put("\",variant=\"", variant_);
    const bool braces = experiment != nullptr || !label.empty();
    if (!label.empty()) put(experiment != nullptr ? "\"," : "{", label, "=\"", text);
    put(braces ? "\"} " : " ");
    put_number(value);
    put("\n");
  }
  void add_head() noexcept {
    put("# HELP nginx_experiment_", family_.name, " ", family_.help, "\n# TYPE nginx_experiment_", family_.name, " ",
        family_.type, "\n");
  }

  char* end() const noexcept { return at_; }
  bool did_not_fit() const noexcept { return did_not_fit_; }

 private:
  template <typename... Text>
  void put(const Text&... text) noexcept {
    (put_one(text), ...);
  }
  void put_one(std::string_view text) noexcept {
    if (text.size() > static_cast<std::size_t>(end_ - at_)) {
      did_not_fit_ = true;
      return;
    }
    at_ += text.copy(at_, text.size());
  }
  void put_number(Decimal value) noexcept {
    char digits[32];
    char* end = std::to_chars(digits, digits + sizeof(digits), value.number).ptr;
    std::string_view text(digits, static_cast<std::size_t>(end - digits));
    if (value.places == 0) return put(text);
    auto places = static_cast<std::size_t>(value.places);
    std::size_t whole = text.size() > places ? text.size() - places : 0;
    put(whole == 0 ? "0" : text.substr(0, whole), ".");
    for (std::size_t zeros = places - (text.size() - whole); zeros > 0; --zeros) put("0");
    put(text.substr(whole));
  }

  const Family& family_;
  std::string_view variant_;
  char* at_;
  char* end_;
  bool did_not_fit_ = false;
};

template <Counter NodeCounters::*counter>
void node_total(Lines& lines) noexcept {
  lines.add(lines.sum(lines.node, lines.node->*counter));
}

template <Counter RowCounters::*counter>
void row_total(Lines& lines) noexcept {
  lines.add(lines.sum(lines.row, lines.row->*counter));
}

void store_age(Lines& lines) noexcept {
  const std::uint64_t answered = lines.zone.header().store.answered_ms.load(std::memory_order_relaxed);
  const std::uint64_t now = shared::steady_ms();
  if (answered != 0) lines.add({now > answered ? now - answered : 0, 3});
}

void store_faults(Lines& lines) noexcept {
  static constexpr std::string_view kReasons[] = {"unreachable", "auth",    "unwritable", "busy",
                                                  "library",     "refused", "other"};
  static_assert(std::size(kReasons) == shared::kStoreFaults);
  for (std::size_t i = 0; i < std::size(kReasons); ++i)
    lines.add("reason", kReasons[i], lines.zone.header().store.faults[i].load(std::memory_order_relaxed));
}

void decisions(Lines& lines) noexcept {
  for (std::size_t reason = 0; reason < lines.all->decisions.size(); ++reason) {
    std::uint64_t value = lines.sum(lines.all, lines.all->decisions[reason]);
    if (value != 0) lines.add("reason", bandit::reason_token(static_cast<Reason>(reason)), value);
  }
}

void rewards_dropped(Lines& lines) noexcept {
  const AllCounters& of_first = *lines.all;
  lines.add("reason", "late", lines.sum(lines.all, of_first.rewards_late));
  lines.add("reason", "duplicate", lines.sum(lines.all, of_first.rewards_duplicate));
  lines.add("reason", "unexposed", lines.sum(lines.all, of_first.rewards_unexposed));
  lines.add("reason", "refused", lines.sum(lines.all, of_first.rewards_refused));
}

const shared::EpochBlock* current_epoch(const Lines& lines) noexcept {
  shared::Offset current = lines.experiment->block->current.load(std::memory_order_acquire);
  return current == 0 ? nullptr : lines.zone.at<shared::EpochBlock>(current);
}

void epoch_number(Lines& lines) noexcept {
  if (const auto* epoch = current_epoch(lines)) lines.add(epoch->id >> 20);
}

void allocation(Lines& lines) noexcept {
  const auto* epoch = current_epoch(lines);
  if (epoch == nullptr || lines.arm < 0) return;
  lines.add({lines.arm < epoch->arms ? epoch->quotas[static_cast<std::size_t>(lines.arm)] : std::uint64_t{0}, 4});
}

void best(Lines& lines) noexcept {
  if (!lines.experiment->adaptive || lines.arm < 0) return;
  const auto& ppm = lines.experiment->block->best_ppm[static_cast<std::size_t>(lines.arm)];
  // The edge that allocates looks, and only past the warm-up: elsewhere there is nothing to tell.
  if (const std::uint32_t more = ppm.load(std::memory_order_relaxed); more > 0) lines.add({more - 1, 6});
}

void rewards(Lines& lines) noexcept {
  for (const PlanGoal& goal : lines.experiment->goals)
    lines.add("goal", goal.key, lines.sum(lines.row, lines.row->rewards[static_cast<std::size_t>(goal.number)]));
}

void reward_values(Lines& lines) noexcept {
  for (const PlanGoal& goal : lines.experiment->goals) {
    if (goal.kind != bandit::GoalKind::kValue) continue;
    std::uint64_t value = lines.sum(lines.row, lines.row->reward_value[static_cast<std::size_t>(goal.number)]);
    lines.add({}, "goal", goal.key, {value, goal.scale});
  }
}

void statuses(Lines& lines) noexcept {
  static constexpr std::string_view kClasses[] = {"1xx", "2xx", "3xx", "4xx", "5xx"};
  static_assert(std::size(kClasses) == shared::kStatusClasses);
  for (std::size_t i = 0; i < std::size(kClasses); ++i) {
    std::uint64_t value = lines.sum(lines.row, lines.row->status[i]);
    if (value != 0) lines.add("status", kClasses[i], value);
  }
}

void cache_statuses(Lines& lines) noexcept {
  static constexpr std::string_view kStatuses[] = {"miss",     "bypass",      "expired", "stale",
                                                   "updating", "revalidated", "hit",     "scarce"};
  static_assert(std::size(kStatuses) == shared::kCacheStatuses);
  for (std::size_t i = 0; i < std::size(kStatuses); ++i) {
    std::uint64_t value = lines.sum(lines.row, lines.row->cache[i]);
    if (value != 0) lines.add("cache_status", kStatuses[i], value);
  }
}

template <shared::Latency RowCounters::*latency>
void histogram(Lines& lines) noexcept {
  static constexpr std::string_view kBounds[] = {"0.005", "0.01", "0.025", "0.05", "0.1", "0.25",
                                                 "0.5",   "1",    "2.5",   "5",    "10",  "+Inf"};
  static_assert(std::size(kBounds) == shared::kLatencyBuckets);
  const shared::Latency& of_first = lines.row->*latency;
  std::uint64_t below = 0;
  for (std::size_t b = 0; b < std::size(kBounds); ++b) {
    below += lines.sum(lines.row, of_first.buckets[b]);
    lines.add("_bucket", "le", kBounds[b], {below, 0});
  }
  lines.add("_sum", {}, {}, {lines.sum(lines.row, of_first.sum_ms), 3});
  lines.add("_count", {}, {}, {below, 0});
}

constexpr std::string_view kGauge = "gauge", kCounter = "counter", kHistogram = "histogram";

constexpr Family kFamilies[] = {
    {Scope::kNode, "zone_bytes", kGauge, "Size of the shared zone.",
     [](Lines& l) noexcept { l.add(l.zone.header().bytes); }},
    {Scope::kNode, "zone_used_bytes", kGauge, "Bytes of the zone handed out to experiments.",
     [](Lines& l) noexcept { l.add(l.zone.arena().in_use()); }},
    {Scope::kNode, "zone_full", kGauge, "Experiments that are off because the zone is full.",
     [](Lines& l) noexcept { l.add(l.zone.header().zone_full.load()); }},
    {Scope::kNode, "document_version", kGauge, "Version of the definitions in use.",
     [](Lines& l) noexcept { l.add(l.plan.document_version); }},
    {Scope::kNode, "experiments", kGauge, "Experiments in the definitions in use.",
     [](Lines& l) noexcept { l.add(l.plan.experiments.size()); }},
    {Scope::kNode, "killed", kGauge, "1 while everything is killed.",
     [](Lines& l) noexcept { l.add(l.zone.header().kill_all.load()); }},
    {Scope::kNode, "filter_false_positive_ratio", kGauge, "Estimated share of first events taken for repeated ones.",
     [](Lines& l) noexcept {
       l.add({static_cast<std::uint64_t>(std::llround(l.zone.filter().false_positive_rate() * 1e9)), 9});
     }},
    {Scope::kNode, "filter_keys", kGauge, "Keys marked in the active half of the filter.",
     [](Lines& l) noexcept { l.add(l.zone.filter().inserted()); }},
    {Scope::kNode, "units_minted_total", kCounter, "Unit ids made and set as a cookie.",
     node_total<&NodeCounters::units_minted>},
    {Scope::kNode, "headers_stripped_total", kCounter, "Assignment headers of clients taken out.",
     node_total<&NodeCounters::headers_stripped>},
    {Scope::kNode, "cookies_refused_total", kCounter, "Assignment cookies with a bad signature or form.",
     node_total<&NodeCounters::cookies_refused>},
    {Scope::kNode, "rewards_replayed_total", kCounter, "Rewards of answers that did not come from upstream.",
     node_total<&NodeCounters::rewards_replayed>},
    {Scope::kNode, "rewards_unknown_total", kCounter, "Rewards for goals that no definition has.",
     node_total<&NodeCounters::rewards_unknown>},
    {Scope::kNode, "beacons_accepted_total", kCounter, "Rewards of beacons that were read.",
     node_total<&NodeCounters::beacons_accepted>},
    {Scope::kNode, "beacons_refused_total", kCounter, "Beacons, or rewards in them, that were malformed.",
     node_total<&NodeCounters::beacons_refused>},
    {Scope::kNode, "not_isolated_total", kCounter, "Stored answers from before the module, served to a cohort.",
     node_total<&NodeCounters::not_isolated>},
    {Scope::kNode, "not_stored_total", kCounter, "Answers kept out of the cache: a reward, or no room in Vary.",
     node_total<&NodeCounters::not_stored>},

    {Scope::kStore, "store_age_seconds", kGauge, "Time since the fleet's store said last what is new.", store_age},
    {Scope::kStore, "store_faults_total", kCounter, "Calls to the fleet's store that went wrong.", store_faults},
    {Scope::kStore, "store_rejoins_total", kCounter, "Times that the fleet's store came back after an outage.",
     [](Lines& l) noexcept { l.add(l.zone.header().store.rejoins.load(std::memory_order_relaxed)); }},

    {Scope::kExperiment, "decisions_total", kCounter, "Requests by the reason of their decision.", decisions},
    {Scope::kExperiment, "rewards_dropped_total", kCounter, "Rewards not counted.", rewards_dropped},
    {Scope::kExperiment, "epoch", kGauge, "Number of the current epoch.", epoch_number},

    {Scope::kRow, "allocation_ratio", kGauge, "Share of new units that the arm gets in the current epoch.", allocation},
    {Scope::kRow, "best_ratio", kGauge, "Probability that the arm is the best, at the last look.", best},
    {Scope::kRow, "exposures_total", kCounter, "Units exposed, once each.", row_total<&RowCounters::exposures>},
    {Scope::kRow, "rewards_total", kCounter, "Units with a reward.", rewards},
    {Scope::kRow, "reward_value_total", kCounter, "Sum of value rewards.", reward_values},
    {Scope::kRow, "requests_total", kCounter, "Requests by status class.", statuses},
    {Scope::kRow, "cache_requests_total", kCounter, "Requests by cache status.", cache_statuses},
    {Scope::kRow, "sent_bytes_total", kCounter, "Bytes sent to clients.", row_total<&RowCounters::bytes_sent>},
    {Scope::kRow, "upstream_failures_total", kCounter, "Requests in which an upstream peer failed or answered 5xx.",
     row_total<&RowCounters::upstream_failures>},
    {Scope::kRow, "request_duration_seconds", kHistogram, "Time from the first byte of the request to the log.",
     histogram<&RowCounters::request>},
    {Scope::kRow, "upstream_duration_seconds", kHistogram, "Time upstream peers took.",
     histogram<&RowCounters::upstream>},
};
constexpr std::string_view kLastLine = "# EOF\n";

}  // namespace

MetricsText::MetricsText(const Plan* plan, const shared::Zone& zone, bool fleet) noexcept
    : plan_(plan), zone_(zone), fleet_(fleet), family_(plan == nullptr ? std::size(kFamilies) : 0) {}

char* MetricsText::write(char* begin, char* end) noexcept {
  for (int steps = 0; steps < kSteps && family_ < std::size(kFamilies); ++steps) {
    const Family& family = kFamilies[family_];
    Lines lines(family, *plan_, zone_, begin, end);
    if (experiment_ == 0 && row_ == 0) lines.add_head();
    bool something = family.scope == Scope::kNode || (family.scope == Scope::kStore && fleet_) ||
                     (experiment_ < plan_->experiments.size() && lines.select(*plan_->experiments[experiment_]) &&
                      (family.scope == Scope::kExperiment || lines.select_row(row_)));
    if (something) family.write(lines);
    if (lines.did_not_fit()) return begin;
    begin = lines.end();
    advance();
  }
  if (family_ < std::size(kFamilies) || static_cast<std::size_t>(end - begin) < kLastLine.size()) return begin;
  complete_ = true;
  return begin + kLastLine.copy(begin, kLastLine.size());
}

void MetricsText::advance() noexcept {
  Scope scope = kFamilies[family_].scope;
  const auto& experiments = plan_->experiments;
  if (scope == Scope::kRow && experiment_ < experiments.size() && row_ < experiments[experiment_]->arms.size()) {
    ++row_;
    return;
  }
  row_ = 0;
  if (scope > Scope::kStore && ++experiment_ < experiments.size()) return;
  experiment_ = 0;
  ++family_;
}

}  // namespace experiment::ngx
