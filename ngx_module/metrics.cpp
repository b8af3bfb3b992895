#include "ngx_module/metrics.h"

#include <cmath>
#include <string>

#include "ngx_module/plan.h"
#include "ngx_module/worker.h"

namespace experiment::ngx {
namespace {

using shared::Counter;

// Text in pool buffers, chained as it grows.
class Page {
 public:
  explicit Page(ngx_http_request_t* r) noexcept : r_(r), last_(&chain_) {}

  void put(std::string_view text) noexcept {
    if (failed_ || text.empty() || (room() < text.size() && !grow(text.size()))) return;
    buf_->last = ngx_cpymem(buf_->last, text.data(), text.size());
    length_ += static_cast<off_t>(text.size());
  }
  void put(std::uint64_t number) noexcept {
    u_char digits[NGX_INT64_LEN];
    u_char* end = ngx_sprintf(digits, "%uL", number);
    put({reinterpret_cast<char*>(digits), static_cast<std::size_t>(end - digits)});
  }
  // Thousandths as seconds, or any number over 10^places.
  void put_decimal(std::uint64_t number, int places) noexcept {
    std::string digits = std::to_string(number);
    if (static_cast<int>(digits.size()) <= places)
      digits.insert(0, static_cast<std::size_t>(places) + 1 - digits.size(), '0');
    if (places > 0) digits.insert(digits.size() - static_cast<std::size_t>(places), ".");
    put(digits);
  }
  void family(std::string_view name, std::string_view type, std::string_view help) noexcept {
    for (std::string_view text :
         {std::string_view("# HELP nginx_experiment_"), name, std::string_view(" "), help,
          std::string_view("\n# TYPE nginx_experiment_"), name, std::string_view(" "), type, std::string_view("\n")}) {
      put(text);
    }
  }
  ngx_int_t send() noexcept {
    if (failed_) return NGX_HTTP_INTERNAL_SERVER_ERROR;
    r_->headers_out.status = NGX_HTTP_OK;
    r_->headers_out.content_length_n = length_;
    r_->headers_out.content_type = ngx_str_t ngx_string("text/plain; version=0.0.4; charset=utf-8");
    r_->headers_out.content_type_len = r_->headers_out.content_type.len;
    if (buf_ != nullptr) buf_->last_buf = buf_->last_in_chain = 1;
    ngx_int_t rc = ngx_http_send_header(r_);
    if (rc == NGX_ERROR || rc > NGX_OK || r_->header_only) return rc;
    return ngx_http_output_filter(r_, chain_);
  }

 private:
  std::size_t room() const noexcept { return buf_ == nullptr ? 0 : static_cast<std::size_t>(buf_->end - buf_->last); }
  bool grow(std::size_t at_least) noexcept {
    ngx_chain_t* link = ngx_alloc_chain_link(r_->pool);
    buf_ = ngx_create_temp_buf(r_->pool, at_least > kPiece ? at_least : kPiece);
    if (link == nullptr || buf_ == nullptr) return !(failed_ = true);
    link->buf = buf_;
    link->next = nullptr;
    *last_ = link;
    last_ = &link->next;
    return true;
  }
  static constexpr std::size_t kPiece = 32 * 1024;
  ngx_http_request_t* r_;
  ngx_chain_t* chain_ = nullptr;
  ngx_chain_t** last_;
  ngx_buf_t* buf_ = nullptr;
  off_t length_ = 0;
  bool failed_ = false;
};

class Metrics {
 public:
  Metrics(Page& page, const Plan& plan, const shared::Zone& zone) noexcept : page_(page), plan_(plan), zone_(zone) {}

  void node() noexcept {
    const auto& header = zone_.header();
    gauge("zone_bytes", "Size of the shared zone.", header.bytes);
    gauge("zone_used_bytes", "Bytes of the zone handed out to experiments.", zone_.arena().in_use());
    gauge("zone_full", "Experiments that are off because the zone is full.", header.zone_full.load());
    gauge("document_version", "Version of the definitions in use.", plan_.document_version);
    gauge("experiments", "Experiments in the definitions in use.", plan_.experiments.size());
    gauge("killed", "1 while everything is killed.", header.kill_all.load());
    auto filter = zone_.filter();
    page_.family("filter_false_positive_ratio", "gauge", "Estimated share of first events taken for repeated ones.");
    page_.put("nginx_experiment_filter_false_positive_ratio ");
    page_.put_decimal(static_cast<std::uint64_t>(std::llround(filter.false_positive_rate() * 1e9)), 9);
    page_.put("\n");
    gauge("filter_keys", "Keys marked in the active half of the filter.", filter.inserted());
    total("units_minted_total", "Unit ids made and set as a cookie.", &shared::NodeCounters::units_minted);
    total("headers_stripped_total", "Assignment headers of clients taken out.",
          &shared::NodeCounters::headers_stripped);
    total("cookies_refused_total", "Assignment cookies with a bad signature or form.",
          &shared::NodeCounters::cookies_refused);
    total("rewards_replayed_total", "Rewards of answers that did not come from upstream.",
          &shared::NodeCounters::rewards_replayed);
    total("rewards_unknown_total", "Rewards for goals that no definition has.", &shared::NodeCounters::rewards_unknown);
    total("beacons_accepted_total", "Rewards of beacons that were read.", &shared::NodeCounters::beacons_accepted);
    total("beacons_refused_total", "Beacons, or rewards in them, that were malformed.",
          &shared::NodeCounters::beacons_refused);
    total("not_isolated_total", "Stored answers from before the module, served to a cohort.",
          &shared::NodeCounters::not_isolated);
    total("not_stored_total", "Answers kept out of the cache: a reward, or no room in Vary.",
          &shared::NodeCounters::not_stored);
  }

  void experiments() noexcept {
    decisions();
    rewards_dropped();
    allocation();
    for_rows("exposures_total", "counter", "Units exposed, once each.",
             [&](const PlanExperiment&, auto& labels, auto sum) {
               labels.line(sum([](auto& row) -> Counter& { return row.exposures; }));
             });
    goals();
    requests();
    latency("request_duration_seconds", "Time from the first byte of the request to the log.",
            &shared::RequestCounters::request);
    latency("upstream_duration_seconds", "Time upstream peers took.", &shared::RequestCounters::upstream);
  }

 private:
  void gauge(std::string_view name, std::string_view help, std::uint64_t value) noexcept {
    page_.family(name, "gauge", help);
    plain(name, value);
  }
  void total(std::string_view name, std::string_view help, Counter shared::NodeCounters::*counter) noexcept {
    std::uint64_t value = 0;
    for (std::uint32_t s = 0; s < zone_.header().stripes; ++s)
      value += (zone_.node(s).*counter).load(std::memory_order_relaxed);
    page_.family(name, "counter", help);
    plain(name, value);
  }
  void plain(std::string_view name, std::uint64_t value) noexcept {
    page_.put("nginx_experiment_");
    page_.put(name);
    page_.put(" ");
    page_.put(value);
    page_.put("\n");
  }

  // Writes `name{experiment="...",variant="...",...} value` lines.
  struct Labels {
    Page& page;
    std::string_view name, experiment, variant;
    void begin(std::string_view suffix = {}) noexcept {
      page.put("nginx_experiment_");
      page.put(name);
      page.put(suffix);
      page.put("{experiment=\"");
      page.put(experiment);
      if (!variant.empty()) {
        page.put("\",variant=\"");
        page.put(variant);
      }
    }
    void label(std::string_view key, std::string_view value) noexcept {
      page.put("\",");
      page.put(key);
      page.put("=\"");
      page.put(value);
    }
    void end(std::uint64_t value) noexcept {
      page.put("\"} ");
      page.put(value);
      page.put("\n");
    }
    void end_decimal(std::uint64_t value, int places) noexcept {
      page.put("\"} ");
      page.put_decimal(value, places);
      page.put("\n");
    }
    void line(std::uint64_t value) noexcept {
      begin();
      end(value);
    }
  };

  template <typename F>
  void for_experiments(std::string_view name, std::string_view type, std::string_view help, F&& write) noexcept {
    page_.family(name, type, help);
    for (const auto& experiment : plan_.experiments) {
      if (experiment->block == nullptr) continue;
      Labels labels{page_, name, experiment->key, {}};
      write(*experiment, labels);
    }
  }

  // One call per arm, and one for the baseline, that has request counters. `sum` adds a counter over the stripes.
  template <typename F>
  void for_rows(std::string_view name, std::string_view type, std::string_view help, F&& write) noexcept {
    for_experiments(name, type, help, [&](const PlanExperiment& experiment, Labels& labels) {
      for (std::size_t row = 0; row <= experiment.variants.size(); ++row) {
        auto* counters = zone_.requests(*experiment.block, static_cast<int>(row), 0);
        if (counters == nullptr || (row > 0 && experiment.variants[row - 1].empty())) continue;
        labels.variant = row == 0 ? std::string_view("@baseline") : std::string_view(experiment.variants[row - 1]);
        auto sum = [&](auto&& field) {
          std::uint64_t value = 0;
          for (std::uint32_t s = 0; s < zone_.header().stripes; ++s)
            value += field(counters[s]).load(std::memory_order_relaxed);
          return value;
        };
        if (row == 0 && sum([](auto& c) -> Counter& { return c.exposures; }) == 0 && experiment.rule.baseline.none())
          continue;
        write(experiment, labels, sum);
      }
    });
  }

  void decisions() noexcept {
    for_experiments(
        "decisions_total", "counter", "Requests by the reason of their decision.",
        [&](const PlanExperiment& experiment, Labels& labels) {
          for (std::size_t reason = 0; reason < static_cast<std::size_t>(bandit::Reason::kCount); ++reason) {
            std::uint64_t value = over_stripes(experiment, [&](auto& c) -> Counter& { return c.decisions[reason]; });
            if (value == 0) continue;
            labels.begin();
            labels.label("reason", bandit::reason_token(static_cast<bandit::Reason>(reason)));
            labels.end(value);
          }
        });
  }

  void rewards_dropped() noexcept {
    struct Drop {
      std::string_view reason;
      Counter shared::ExperimentCounters::*counter;
    };
    for_experiments("rewards_dropped_total", "counter", "Rewards not counted.",
                    [&](const PlanExperiment& experiment, Labels& labels) {
                      for (const Drop& drop : {Drop{"late", &shared::ExperimentCounters::rewards_late},
                                               Drop{"duplicate", &shared::ExperimentCounters::rewards_duplicate},
                                               Drop{"unexposed", &shared::ExperimentCounters::rewards_unexposed},
                                               Drop{"refused", &shared::ExperimentCounters::rewards_refused}}) {
                        labels.begin();
                        labels.label("reason", drop.reason);
                        labels.end(over_stripes(experiment, [&](auto& c) -> Counter& { return c.*drop.counter; }));
                      }
                    });
  }

  void allocation() noexcept {
    for_rows("allocation_ratio", "gauge", "Share of new units that the arm gets in the current epoch.",
             [&](const PlanExperiment& experiment, Labels& labels, auto) {
               shared::Offset current = experiment.block->current.load(std::memory_order_acquire);
               int arm = arm_of(experiment, labels.variant);
               if (current == 0 || arm < 0) return;
               const auto* epoch = zone_.at<shared::EpochBlock>(current);
               labels.begin();
               labels.end_decimal(arm < epoch->arms ? epoch->quotas[static_cast<std::size_t>(arm)] : 0, 4);
             });
    for_rows("best_ratio", "gauge", "Probability that the arm is the best, at the last look.",
             [&](const PlanExperiment& experiment, Labels& labels, auto) {
               int arm = arm_of(experiment, labels.variant);
               if (arm < 0 || !experiment.adaptive) return;
               labels.begin();
               labels.end_decimal(
                   experiment.block->best_ppm[static_cast<std::size_t>(arm)].load(std::memory_order_relaxed), 6);
             });
    for_experiments("epoch", "gauge", "Number of the current epoch.",
                    [&](const PlanExperiment& experiment, Labels& labels) {
                      shared::Offset current = experiment.block->current.load(std::memory_order_acquire);
                      if (current != 0) labels.line(zone_.at<shared::EpochBlock>(current)->id >> 20);
                    });
  }

  void goals() noexcept {
    for_rows(
        "rewards_total", "counter", "Units with a reward.",
        [&](const PlanExperiment& experiment, Labels& labels, auto sum) {
          for (const PlanGoal& goal : experiment.goals) {
            labels.begin();
            labels.label("goal", goal.key);
            labels.end(sum([&](auto& row) -> Counter& { return row.rewards[static_cast<std::size_t>(goal.number)]; }));
          }
        });
    for_rows("reward_value_total", "counter", "Sum of value rewards.",
             [&](const PlanExperiment& experiment, Labels& labels, auto sum) {
               for (const PlanGoal& goal : experiment.goals) {
                 if (goal.kind != bandit::GoalKind::kValue) continue;
                 labels.begin();
                 labels.label("goal", goal.key);
                 labels.end_decimal(sum([&](auto& row) -> Counter& {
                                      return row.reward_value[static_cast<std::size_t>(goal.number)];
                                    }),
                                    goal.scale);
               }
             });
  }

  void requests() noexcept {
    static constexpr std::string_view kStatus[] = {"1xx", "2xx", "3xx", "4xx", "5xx"};
    static constexpr std::string_view kCache[] = {"miss",     "bypass",      "expired", "stale",
                                                  "updating", "revalidated", "hit",     "scarce"};
    for_rows("requests_total", "counter", "Requests by status class.",
             [&](const PlanExperiment&, Labels& labels, auto sum) {
               for (std::size_t i = 0; i < shared::kStatusClasses; ++i) {
                 std::uint64_t value = sum([&](auto& row) -> Counter& { return row.status[i]; });
                 if (value == 0) continue;
                 labels.begin();
                 labels.label("status", kStatus[i]);
                 labels.end(value);
               }
             });
    for_rows("cache_requests_total", "counter", "Requests by cache status.",
             [&](const PlanExperiment&, Labels& labels, auto sum) {
               for (std::size_t i = 0; i < shared::kCacheStatuses; ++i) {
                 std::uint64_t value = sum([&](auto& row) -> Counter& { return row.cache[i]; });
                 if (value == 0) continue;
                 labels.begin();
                 labels.label("cache_status", kCache[i]);
                 labels.end(value);
               }
             });
    for_rows("sent_bytes_total", "counter", "Bytes sent to clients.",
             [&](const PlanExperiment&, Labels& labels, auto sum) {
               labels.line(sum([](auto& row) -> Counter& { return row.bytes_sent; }));
             });
    for_rows("upstream_failures_total", "counter", "Requests in which an upstream peer failed or answered 5xx.",
             [&](const PlanExperiment&, Labels& labels, auto sum) {
               labels.line(sum([](auto& row) -> Counter& { return row.upstream_failures; }));
             });
  }

  void latency(std::string_view name, std::string_view help, shared::Latency shared::RequestCounters::*which) noexcept {
    static constexpr std::string_view kBounds[] = {"0.005", "0.01", "0.025", "0.05", "0.1", "0.25",
                                                   "0.5",   "1",    "2.5",   "5",    "10",  "+Inf"};
    static_assert(std::size(kBounds) == shared::kLatencyBuckets);
    for_rows(name, "histogram", help, [&](const PlanExperiment&, Labels& labels, auto sum) {
      std::uint64_t below = 0;
      for (std::size_t b = 0; b < shared::kLatencyBuckets; ++b) {
        below += sum([&](auto& row) -> Counter& { return (row.*which).buckets[b]; });
        labels.begin("_bucket");
        labels.label("le", kBounds[b]);
        labels.end(below);
      }
      labels.begin("_sum");
      labels.end_decimal(sum([&](auto& row) -> Counter& { return (row.*which).sum_ms; }), 3);
      labels.begin("_count");
      labels.end(below);
    });
  }

  static int arm_of(const PlanExperiment& experiment, std::string_view variant) noexcept {
    for (std::size_t arm = 0; arm < experiment.variants.size(); ++arm) {
      if (experiment.variants[arm] == variant) return static_cast<int>(arm);
    }
    return -1;
  }

  template <typename F>
  std::uint64_t over_stripes(const PlanExperiment& experiment, F&& field) const noexcept {
    std::uint64_t value = 0;
    for (std::uint32_t s = 0; s < zone_.header().stripes; ++s) {
      value += field(zone_.counters(*experiment.block, s)).load(std::memory_order_relaxed);
    }
    return value;
  }

  Page& page_;
  const Plan& plan_;
  const shared::Zone& zone_;
};

}  // namespace

ngx_int_t metrics_handler(ngx_http_request_t* r) noexcept {
  if (r->method != NGX_HTTP_GET && r->method != NGX_HTTP_HEAD) return NGX_HTTP_NOT_ALLOWED;
  if (ngx_int_t rc = ngx_http_discard_request_body(r); rc != NGX_OK) return rc;
  Page page(r);
  if (const Plan* plan = current_plan()) {
    Metrics metrics(page, *plan, worker_zone());
    metrics.node();
    metrics.experiments();
  }
  page.put("# EOF\n");
  return page.send();
}

}  // namespace experiment::ngx
