#include "ngx_module/leader.h"

#include <signal.h>

#include <algorithm>

#include "ngx_module/worker.h"
#include "ngx_module/zone.h"
#include "shared/file_store.h"

namespace experiment::ngx {
namespace {

constexpr ngx_msec_t kLeaseMs = 2000;
constexpr ngx_msec_t kCollectMs = 1000;  // how often the allocator looks
constexpr ngx_msec_t kFlushMs = 5000;    // how often totals go to the store
constexpr std::uint64_t kTellAgainMs = 10000;
constexpr int kWaitForFirstStepMs = 1000;
constexpr std::uint64_t kSliceNs = 500 * 1000;  // of work in the zone, before requests have their turn

std::int64_t unix_ms() noexcept {
  ngx_time_t* now = ngx_timeofday();
  return static_cast<std::int64_t>(now->sec) * 1000 + static_cast<std::int64_t>(now->msec);
}

bool is_alive(std::uint32_t pid) {
  return kill(static_cast<pid_t>(pid), 0) == 0 || errno != ESRCH;
}

std::uint64_t random_bits() {
  std::uint64_t bits = 0;
  random_bytes(reinterpret_cast<std::uint8_t*>(&bits), sizeof(bits));
  return bits;
}

// CLOCK_MONOTONIC, the same for every process of the machine.
std::uint64_t monotonic_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1000000000 + static_cast<std::uint64_t>(now.tv_nsec);
}
std::uint64_t monotonic_ms() noexcept {
  return monotonic_ns() / 1000000;
}

}  // namespace

// Lives in the task; touched by one side at a time.
struct Leader::Step {
  Leader* leader;
  shared::Conductor* mind;
  shared::Zone zone;
  bool collect;           // the zone's totals: some milliseconds with a thousand experiments
  std::uint64_t applied;  // changes of the mind that are shown, or being shown
  shared::StepInput input;
  std::vector<shared::Message> messages;
  std::optional<shared::ZoneUpdate> update;  // where there is more

  void run() noexcept {
    try {
      if (collect) input.totals = zone.read_counters();
      messages = mind->step(input);
      if (mind->changes() != applied) update = shared::ZoneSync::prepare(*mind);
    } catch (...) {  // out of memory: the next step tries again
    }
  }
};

Leader::Leader(const MainConf& conf, const shared::Zone& zone, ngx_log_t* log) : conf_(conf), zone_(zone), log_(log) {}

Leader::~Leader() {
#if (NGX_THREADS)
  if (busy_) static_cast<Step*>(task_->ctx)->~Step();
#endif
}

bool Leader::hold_lease() noexcept {
  auto& header = zone_.header();
  auto self = static_cast<std::uint64_t>(ngx_pid);
  std::uint64_t holder = header.leader.load(std::memory_order_acquire);
  std::uint64_t now = monotonic_ms();
  if (holder != self) {
    bool free = holder == 0 || now > header.leader_until_ms.load(std::memory_order_acquire) ||
                !is_alive(static_cast<std::uint32_t>(holder));
    if (!free || !header.leader.compare_exchange_strong(holder, self)) return false;
  }
  header.leader_until_ms.store(now + kLeaseMs, std::memory_order_release);
  return true;
}

void Leader::release_lease() noexcept {
  auto self = static_cast<std::uint64_t>(ngx_pid);
  zone_.header().leader.compare_exchange_strong(self, 0);
}

void Leader::ensure_mind() {
  if (mind_ != nullptr) return;
  auto store = std::make_unique<shared::FileStore>(conf_.state_directory, std::string(zone_.header().instance.data()));
  mind_ = std::make_unique<shared::Conductor>(std::move(store), conf_.kill_file, random_bits);
  sync_ = std::make_unique<shared::ZoneSync>(zone_);
  ZoneLock lock(conf_);
  mind_->restore(zone_.unsaved());
  applied_changes_ = ~std::uint64_t{0};
}

Leader::Step Leader::next_step() {
  Step step{this, mind_.get(), zone_, false, applied_changes_, {}, {}, {}};
  step.input.now_ms = unix_ms();
  if (ngx_current_msec - collected_ms_ < kCollectMs) return step;
  collected_ms_ = ngx_current_msec;
  step.collect = true;
  if (ngx_current_msec - flushed_ms_ >= kFlushMs) {
    flushed_ms_ = ngx_current_msec;
    step.input.flush = true;
  }
  return step;
}

void Leader::start() {
  if (hold_lease()) {
    ensure_mind();
    run_inline();
    while (hurries()) show(nullptr);
    return;
  }
  for (int waited = 0; waited < kWaitForFirstStepMs && zone_.header().adopted.load(std::memory_order_acquire) == 0;
       ++waited) {
    ngx_msleep(1);
  }
}

void Leader::tick() {
  if (busy_) {
    lost_ = !hold_lease() || lost_;
    return;
  }
  if (!hold_lease()) {
    mind_.reset();  // somebody else leads: what we believe gets old
    sync_.reset();
    return;
  }
  if (hurries()) return show(nullptr);
  ensure_mind();
#if (NGX_THREADS)
  begin_step();
#else
  if (!said_inline_) {
    ngx_log_error(NGX_LOG_NOTICE, log_, 0,
                  "experiment: nginx has no threads, so the store's files are read and written on the event loop");
    said_inline_ = true;
  }
  run_inline();
#endif
}

void Leader::run_inline() {
  Step step = next_step();
  step.run();
  finish(step);
}

#if (NGX_THREADS)
void Leader::begin_step() {
  if (task_ == nullptr) {
    task_ = ngx_thread_task_alloc(conf_.cycle->pool, sizeof(Step));
    if (task_ == nullptr) return run_inline();
    task_->handler = [](void* data, ngx_log_t*) { static_cast<Step*>(data)->run(); };
    task_->event.handler = step_done;
    task_->event.data = task_->ctx;
  }
  auto* step = new (task_->ctx) Step(next_step());
  if (ngx_thread_task_post(conf_.threads, task_) != NGX_OK) {
    step->~Step();
    return run_inline();
  }
  busy_ = true;
}

void Leader::step_done(ngx_event_t* event) noexcept {
  auto* step = static_cast<Step*>(event->data);
  Leader* leader = step->leader;
  leader->busy_ = false;
  try {
    leader->finish(*step);
  } catch (...) {
    ngx_log_error(NGX_LOG_ERR, leader->log_, 0, "experiment: out of memory, the leader tries again");
  }
  step->~Step();
}
#endif

void Leader::finish(Step& step) {
  report(step.messages);
  show(&step);
  if (leaving_) step_down();
}

// Takes up what a step brought, if it is given, and shows a slice of it.
void Leader::show(Step* step) {
  std::vector<std::string> full;
  bool showing = false;
  {
    ZoneLock lock(conf_);
    // A step that took longer than the lease: what it believes is old, kills included. Whoever leads now shows theirs
    // under this lock.
    if (lost_ || zone_.header().leader.load(std::memory_order_acquire) != static_cast<std::uint64_t>(ngx_pid)) {
      lost_ = false;
      mind_.reset();
      sync_.reset();
      return;
    }
    std::uint64_t end = monotonic_ns() + kSliceNs;
    auto enough = [&] { return monotonic_ns() >= end; };
    if (step != nullptr && step->update) {
      sync_->begin(*mind_, std::move(*step->update));
      applied_changes_ = mind_->changes();
    }
    showing = sync_->under_way();
    if (!sync_->more(*mind_, enough)) return;
    full = sync_->take_lines();
    if (sync_->tidy(*mind_, unix_ms(), is_alive, enough)) applied_changes_ = ~std::uint64_t{0};
  }
  if (showing) tell_full(std::move(full));
}

void Leader::tell_full(std::vector<std::string> full) {
  for (const auto& line : full) {
    bool said = std::find(said_full_.begin(), said_full_.end(), line) != said_full_.end();
    if (!said) ngx_log_error(NGX_LOG_ERR, log_, 0, "experiment: %s", line.c_str());
  }
  said_full_ = std::move(full);
}

void Leader::report(const std::vector<shared::Message>& messages) noexcept {
  for (const auto& message : messages) {
    ngx_uint_t level = message.severity == shared::Severity::kNotice    ? NGX_LOG_NOTICE
                       : message.severity == shared::Severity::kWarning ? NGX_LOG_WARN
                                                                        : NGX_LOG_ERR;
    ngx_log_error(level, log_, 0, "experiment: %s", message.text.c_str());
  }
}

void Leader::step_down() {
  leaving_ = true;
  if (!busy_) release_lease();  // otherwise when the step is done
}

void Leader::end() {
  // A step that was under way has ended: nginx joins its thread pool before modules end. Nobody was told.
#if (NGX_THREADS)
  if (busy_) report(static_cast<Step*>(task_->ctx)->messages);
#endif
  shared::Exchange wants;
  wants.counters = zone_.read_counters();
  if (mind_ != nullptr) {
    report(mind_->flush(std::move(*wants.counters), unix_ms()));
  } else if (!wants.counters->empty()) {
    // Nobody knows who ends last, so all write; one of them tells of trouble.
    wants.counters_only = true;
    shared::FileStore store(conf_.state_directory, std::string(zone_.header().instance.data()));
    auto errors = store.exchange(wants).errors;
    std::uint64_t told = zone_.header().ended_ms.load(), now = monotonic_ms();
    bool tell =
        told + kTellAgainMs < now && !errors.empty() && zone_.header().ended_ms.compare_exchange_strong(told, now);
    for (const auto& error : errors) {
      if (tell) ngx_log_error(NGX_LOG_ERR, log_, 0, "experiment: %s", error.c_str());
    }
  }
  release_lease();
}

}  // namespace experiment::ngx
