#include "ngx_module/worker.h"

#include <openssl/rand.h>

#include <algorithm>
#include <memory>

#include "ngx_module/leader.h"
#include "ngx_module/slice.h"
#include "ngx_module/variables.h"
#include "ngx_module/zone.h"
#include "shared/key_file.h"

namespace experiment::ngx {
namespace {

constexpr ngx_msec_t kWaitMs = 5;     // how often the leader looks whether its step is done
constexpr ngx_msec_t kFirstMs = 10;   // how often a worker without a plan looks for its first one
constexpr ngx_msec_t kTickMs = 100;   // how often a worker looks for a newer plan
constexpr ngx_msec_t kLeadMs = 250;   // how often the leader looks at the store
constexpr ngx_msec_t kPushedMs = 50;  // and how often at most when the store tells of changes
constexpr int kFirstPlanTries = 100;

class Worker {
 public:
  Worker(MainConf& conf, ngx_cycle_t* cycle)
      : conf_(conf),
        log_(cycle->log),
        zone_(zone_of(conf)),
        stripe_(static_cast<std::uint32_t>(ngx_worker) % zone_.header().stripes),
        slot_(zone_.ensure_worker(static_cast<std::uint32_t>(ngx_pid))),
        leader_(
            conf, zone_, [this] { hurry(); }, cycle->log) {}
  ~Worker() {
    if (slot_ != nullptr) slot_->pid.store(0);
    for (Plan* plan : plans_) delete plan;
  }

  void start() {
    if (slot_ == nullptr) {
      ngx_log_error(NGX_LOG_WARN, log_, 0,
                    "experiment: more than %d processes look at the zone; retired experiments are not freed meanwhile",
                    shared::kMaxWorkers);
    }
    if (conf_.keys) keys_ = *conf_.keys;  // first: the leader reports them
    leader_.start();
    if (!keys_) generated_keys();
    // An image that was replaced under the copying is followed by one that is whole: nobody begins without a plan.
    for (int tries = 0; current_ == nullptr && tries < kFirstPlanTries; ++tries) build([] { return false; });
    timer_.handler = on_timer;
    timer_.data = this;
    timer_.log = log_;
    timer_.cancelable = 1;
    ngx_add_timer(&timer_, leader_.is_pushed() ? 1 : current_ == nullptr ? kFirstMs : kTickMs);
  }

  void end() {
    if (timer_.timer_set) ngx_del_timer(&timer_);
    leader_.end();
  }

  Plan* current() const noexcept { return current_; }
  const shared::KeyRing& keys() const noexcept { return *keys_; }
  std::string keys_fingerprint() const { return keys_ ? keys_->fingerprint() : std::string(); }
  std::vector<std::string> key_fingerprints() const {
    return keys_ ? keys_->key_fingerprints() : std::vector<std::string>();
  }
  const shared::Zone& zone() const noexcept { return zone_; }
  std::uint32_t stripe() const noexcept { return stripe_; }

  void drop(Plan* plan) noexcept {
    plans_.erase(std::find(plans_.begin(), plans_.end(), plan));
    delete plan;
    tell_oldest();
  }

  bool warned_plain_cookie = false;

 private:
  static void on_timer(ngx_event_t* event) noexcept {
    auto* worker = static_cast<Worker*>(event->data);
    const bool ends = ngx_exiting || ngx_terminate || ngx_quit;
    try {
      if (ends) {
        worker->leader_.step_down();
      } else {
        worker->tick();
      }
    } catch (...) {
      ngx_log_error(NGX_LOG_ERR, worker->log_, 0, "experiment: out of memory, the plan in use stays");
    }
    if (ends) {
      if (worker->leader_.waits()) ngx_add_timer(event, kWaitMs);
      return;
    }
    const Leader& leader = worker->leader_;
    ngx_add_timer(event, worker->builder_ != nullptr || leader.hurries() ? 1
                         : leader.waits() || leader.is_pushed()          ? kWaitMs
                         : worker->current_ == nullptr                   ? kFirstMs
                                                                         : kTickMs);
  }

  // The next tick is now.
  void hurry() noexcept {
    if (!timer_.timer_set) return;
    ngx_del_timer(&timer_);
    ngx_add_timer(&timer_, 1);
  }

  void tick() {
    if (slot_ == nullptr) {
      slot_ = zone_.ensure_worker(static_cast<std::uint32_t>(ngx_pid));
      tell_oldest();
    }
    if (leader_.hurries()) return leader_.tick();
    build(Slice());
    if (leader_.waits()) return leader_.tick();
    const ngx_msec_t rest_ms = leader_.is_pushed() ? kPushedMs : kLeadMs;
    if (builder_ != nullptr || ngx_current_msec - led_ms_ < rest_ms) return;
    led_ms_ = ngx_current_msec;
    leader_.tick();
  }

  // Compiles a newer image, a slice in each call, and swaps the plan when it is complete.
  void build(const PlanBuilder::Enough& enough) {
    if (builder_ == nullptr) {
      std::uint64_t newest = zone_.header().plan_version.load(std::memory_order_acquire);
      if (newest == 0 || (current_ != nullptr && current_->version == newest)) return;
      auto image = zone_.copy_image();
      if (!image) return;  // being replaced: next time
      builder_ = std::make_unique<PlanBuilder>(conf_, zone_, stripe_, std::move(*image), current_);
    }
    if (!builder_->step(enough)) return;
    auto plan = builder_->take();
    plan->recent = recent_.get();
    if (leads()) {
      for (const auto& line : builder_->warnings())
        ngx_log_error(NGX_LOG_WARN, log_, 0, "experiment: %s", line.c_str());
      warn_unknown_names(*plan);
    }
    builder_.reset();
    plan->references = 1;
    plans_.push_back(plan.get());
    Plan* before = current_;
    current_ = plan.release();
    if (before != nullptr) {
      release_plan(before);
    } else {
      tell_oldest();
    }
  }

  // Frees nothing: other edges of the plan may be in use by requests that began before.
  void tell_oldest() noexcept {
    std::uint64_t oldest = current_ == nullptr ? 0 : current_->version;
    for (const Plan* plan : plans_) oldest = std::min(oldest, plan->version);
    if (slot_ != nullptr) slot_->plan_version.store(oldest, std::memory_order_release);
  }

  // Names in nginx.conf that no definition has: said once each, by the leader.
  void warn_unknown_names(const Plan& plan) {
    auto warn = [&](const std::string& what) {
      if (std::find(warned_.begin(), warned_.end(), what) != warned_.end()) return;
      warned_.push_back(what);
      ngx_log_error(NGX_LOG_WARN, log_, 0, "experiment: %s", what.c_str());
    };
    if (plan.document_version == 0) return;
    for (std::size_t v = 0; v < conf_.variable_keys.size(); ++v) {
      if (plan.variables[v] < 0)
        warn("no definition has the experiment of the variable \"$variant_" + conf_.variable_keys[v] +
             "\" or one like it");
    }
    for (const auto& placement : conf_.placements) {
      if (!plan.placements[placement->number].named) {
        std::string list;
        for (const auto& pattern : placement->patterns) list += (list.empty() ? "" : " ") + pattern;
        warn("no definition matches the placement \"" + list + "\" at " + placement->place);
      }
    }
    for (const auto& goal : conf_.reward_goals) {
      if (plan.find_goal(goal) == nullptr) warn("no definition has the goal \"" + goal + "\" of an experiment_reward");
    }
  }

  // Without experiment_keys: a ring of the state directory's own, which begins as the zone's. Where there is none to be
  // had, the zone's signs: every worker reads what another one signed, until a restart.
  void generated_keys() {
    std::string error;
    std::string own(zone_.header().keys.data());
    auto text = shared::ensure_keys(
        conf_.state_directory, [&] { return own; }, error);
    if (text) keys_ = shared::KeyRing::parse(*text, error);
    if (keys_) return;
    if (leads()) {
      ngx_log_error(
          NGX_LOG_ERR, log_, 0,
          "experiment: keys in the state directory \"%s\": %s; cookies do not outlive a restart until that is mended",
          conf_.state_directory.c_str(), error.c_str());
    }
    keys_ = shared::KeyRing::parse(own, error);
  }

  bool leads() const noexcept {
    return zone_.header().leader.load(std::memory_order_relaxed) == static_cast<std::uint64_t>(ngx_pid);
  }

  MainConf& conf_;
  ngx_log_t* log_;
  shared::Zone zone_;
  std::uint32_t stripe_;
  shared::WorkerSlot* slot_;
  std::optional<shared::KeyRing> keys_;
  Plan* current_ = nullptr;
  std::vector<Plan*> plans_;  // current and those that requests still use
  std::unique_ptr<PlanBuilder> builder_;
  Leader leader_;
  ngx_msec_t led_ms_ = 0;
  ngx_event_t timer_{};
  std::vector<std::string> warned_;
  std::unique_ptr<shared::Recent> recent_ = std::make_unique<shared::Recent>();
};

std::unique_ptr<Worker> worker;

}  // namespace

Plan* current_plan() noexcept {
  return worker == nullptr ? nullptr : worker->current();
}
void drop_plan(Plan* plan) noexcept {
  if (worker != nullptr) worker->drop(plan);
}
const shared::KeyRing& worker_keys() noexcept {
  return worker->keys();
}
std::string worker_keys_fingerprint() {
  return worker == nullptr ? std::string() : worker->keys_fingerprint();
}
std::vector<std::string> worker_key_fingerprints() {
  return worker == nullptr ? std::vector<std::string>() : worker->key_fingerprints();
}
const shared::Zone& worker_zone() noexcept {
  return worker->zone();
}
std::uint32_t worker_stripe() noexcept {
  return worker->stripe();
}
shared::NodeCounters& worker_counters() noexcept {
  static shared::NodeCounters nobodys;  // of a worker that runs without experiments: headers are stripped there as well
  return worker == nullptr ? nobodys : worker->zone().node(worker->stripe());
}

void warn_plain_cookie(ngx_http_request_t* r, const CookieName& name) noexcept {
  if (worker->warned_plain_cookie) return;
  worker->warned_plain_cookie = true;
  ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                "experiment: cookie \"%s\" is set as \"%s\" without Secure over plain http; behind a TLS terminator "
                "say secure=$variable in "
                "experiment_cookie",
                name.https.c_str(), name.http.c_str());
}

bool random_bytes(std::uint8_t* out, std::size_t n) noexcept {
  return RAND_bytes(out, static_cast<int>(n)) == 1;
}

std::uint64_t random_bits() noexcept {
  std::uint64_t bits = 0;
  random_bytes(reinterpret_cast<std::uint8_t*>(&bits), sizeof(bits));
  return bits;
}

ngx_int_t start_worker(ngx_cycle_t* cycle) noexcept {
  if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE) return NGX_OK;
  if (ngx_http_cycle_get_module_main_conf(cycle, ngx_http_core_module) == nullptr) return NGX_OK;
  auto* conf = static_cast<MainConf*>(ngx_http_cycle_get_module_main_conf(cycle, ngx_http_experiment_module));
  if (conf == nullptr || conf->shm == nullptr) return NGX_OK;
  try {
    worker = std::make_unique<Worker>(*conf, cycle);
    worker->start();
  } catch (const std::exception& e) {
    ngx_log_error(NGX_LOG_CRIT, cycle->log, 0, "experiment: worker runs without experiments: %s", e.what());
    worker.reset();
  }
  return NGX_OK;
}

void end_worker(ngx_cycle_t*) noexcept {
  if (worker == nullptr) return;
  try {
    worker->end();
  } catch (...) {  // out of memory: what was counted since the last flush stays in the zone
  }
  worker.reset();
}

}  // namespace experiment::ngx
