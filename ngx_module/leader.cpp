#include "ngx_module/leader.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "ngx_module/node_store.h"
#include "ngx_module/report.h"
#include "ngx_module/slice.h"
#include "ngx_module/worker.h"
#include "ngx_module/zone.h"
#include "shared/request_vectors.h"

namespace experiment::ngx {
namespace {

constexpr ngx_msec_t kLeaseMs = 2000;
constexpr ngx_msec_t kCollectMs = 1000;    // how often the allocator looks
constexpr ngx_msec_t kFlushMs = 5000;      // how often totals go to the store
constexpr ngx_msec_t kFlushAgainMs = 500;  // and how often at most when the store lacks some
constexpr ngx_msec_t kReportMs = 15000;  // how often the edge reports, and what is counted of requests goes to a fleet
constexpr std::uint64_t kTellAgainMs = 10000;
constexpr int kWaitForFirstStepMs = 1000;
constexpr std::size_t kMostNotices = 50;  // at once
constexpr int kLingerMs = 500;            // for the last totals, at the end of the process

std::int64_t unix_ms() noexcept {
  ngx_time_t* now = ngx_timeofday();
  return static_cast<std::int64_t>(now->sec) * 1000 + static_cast<std::int64_t>(now->msec);
}

bool is_alive(std::uint32_t pid) {
  return kill(static_cast<pid_t>(pid), 0) == 0 || errno != ESRCH;
}

// CLOCK_MONOTONIC, the same for every process of the machine.
std::uint64_t monotonic_ms() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1000 + static_cast<std::uint64_t>(now.tv_nsec) / 1000000;
}

// A document that changes everything has a notice for each experiment, and each line is a write: some tell it all.
void report(ngx_log_t* log, const std::vector<shared::Message>& messages) noexcept {
  std::size_t notices = 0;
  for (const auto& message : messages) {
    if (message.severity == shared::Severity::kNotice && ++notices > kMostNotices) continue;
    ngx_uint_t level = message.severity == shared::Severity::kNotice    ? NGX_LOG_NOTICE
                       : message.severity == shared::Severity::kWarning ? NGX_LOG_WARN
                                                                        : NGX_LOG_ERR;
    ngx_log_error(level, log, 0, "experiment: %s", message.text.c_str());
  }
  if (notices > kMostNotices) {
    ngx_log_error(NGX_LOG_NOTICE, log, 0, "experiment: %uz more notices at the same time", notices - kMostNotices);
  }
}

}  // namespace

// Lives in the task; touched by one side at a time.
struct Leader::Step {
  shared::Conductor* mind;
  RedisLink* link;  // nullptr: none
  shared::Zone zone;
  bool collect = false;   // the zone's totals: some milliseconds with a thousand experiments
  bool requests = false;  // and what is counted of requests
  std::uint64_t applied;  // changes of the mind that are shown, or being shown
  shared::StepInput input;
  std::vector<shared::Message> messages;
  std::optional<shared::ZoneUpdate> update;  // where there is more
  std::atomic<bool> done{false};             // the last that its thread writes

  explicit Step(const Leader& leader)
      : mind(leader.mind_.get()), link(leader.link_.get()), zone(leader.zone_), applied(leader.applied_changes_) {}

  void run() noexcept {
    try {
      if (collect) input.totals = zone.read_counters();
      if (collect && requests) read_request_vectors(zone, *input.totals);
      messages = mind->step(input);
      if (link != nullptr) link->end_step();
      if (mind->changes() != applied) update = shared::ZoneSync::prepare(*mind);
    } catch (...) {  // out of memory: the next step tries again
    }
    done.store(true, std::memory_order_release);
  }
};

Leader::Leader(const MainConf& conf, const shared::Zone& zone, std::function<void()> wake, ngx_log_t* log)
    : conf_(conf), zone_(zone), wake_(std::move(wake)), log_(log) {}

Leader::~Leader() {
  if (link_ != nullptr) link_->close();
  if (thread_.joinable()) thread_.join();
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
  if (conf_.store) {
    auto hint = [this] {
      pushed_ = true;
      wake_();
    };
    std::vector<std::string> kill_files{conf_.state_directory + "/runtime.json"};
    if (!conf_.kill_file.empty()) kill_files.push_back(conf_.kill_file);
    link_ = std::make_unique<RedisLink>(*conf_.store, std::move(kill_files), hint, log_);
  }
  mind_ = std::make_unique<shared::Conductor>(make_store(conf_, zone_, link_.get()), conf_.kill_file, random_bits);
  sync_ = std::make_unique<shared::ZoneSync>(zone_);
  ZoneLock lock(conf_);
  mind_->restore(zone_.unsaved());
  applied_changes_ = ~std::uint64_t{0};
}

// Somebody else leads: what we believe gets old.
void Leader::forget() noexcept {
  mind_.reset();
  sync_.reset();
  link_.reset();
  pushed_ = false;
}

std::unique_ptr<Leader::Step> Leader::next_step() {
  auto step = std::make_unique<Step>(*this);
  step->input.now_ms = unix_ms();
  step->input.hint = std::exchange(pushed_, false);
  step->input.report = current_report();
  const bool flush = ngx_current_msec - flushed_ms_ >= (mind_->wants_flush() ? kFlushAgainMs : kFlushMs);
  if (!flush && ngx_current_msec - collected_ms_ < kCollectMs) return step;
  collected_ms_ = ngx_current_msec;
  step->collect = true;
  if (flush) {
    flushed_ms_ = ngx_current_msec;
    step->input.flush = true;
    step->requests = conf_.store && ngx_current_msec - requests_ms_ >= kReportMs;
    if (step->requests) requests_ms_ = ngx_current_msec;
  }
  return step;
}

// Made anew when it says something else, and now and then for its clock.
const std::string& Leader::current_report() {
  const auto said = std::make_pair(mind_->document_version(), mind_->runtime().version);
  if (report_.empty() || said != reported_ || ngx_current_msec - reported_ms_ >= kReportMs) {
    report_ = edge_report(conf_, *mind_, unix_ms() / 1000);
    reported_ = said;
    reported_ms_ = ngx_current_msec;
  }
  return report_;
}

void Leader::start() {
  if (hold_lease()) {
    // What the zone shows is newer than what an edge of a fleet has on its disk: it stays until the store is asked.
    pushed_ = conf_.store.has_value();  // nothing can be asked before the event loop runs
    if (pushed_ && zone_.header().adopted.load(std::memory_order_acquire) != 0) return;
    ensure_mind();
    auto step = next_step();
    step->run();
    finish(*step);
    while (hurries()) show(nullptr);
    pushed_ = conf_.store.has_value();
    return;
  }
  for (int waited = 0; waited < kWaitForFirstStepMs && zone_.header().adopted.load(std::memory_order_acquire) == 0;
       ++waited) {
    ngx_msleep(1);
  }
}

void Leader::tick() {
  if (step_ != nullptr) {
    lost_ = !hold_lease() || lost_;
    if (link_ != nullptr) link_->pump();
    end_step();
    return;
  }
  if (!hold_lease()) return forget();
  if (hurries()) return show(nullptr);
  ensure_mind();
  begin_step();
}

// Signals are nginx's, so that the thread takes none.
void Leader::begin_step() {
  step_ = next_step();
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  try {
    thread_ = std::thread([step = step_.get()] { step->run(); });
  } catch (...) {  // no thread to be had: here, then
    step_->run();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Leader::end_step() {
  if (!step_->done.load(std::memory_order_acquire)) return;
  if (thread_.joinable()) thread_.join();
  auto step = std::move(step_);
  finish(*step);
}

void Leader::finish(Step& step) {
  report(log_, step.messages);
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
      return forget();
    }
    Slice enough;
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

void Leader::step_down() {
  leaving_ = true;
  if (link_ != nullptr) link_->close();
  if (step_ != nullptr) end_step();
  if (step_ == nullptr) release_lease();  // otherwise when the step is done
}

void Leader::end() {
  if (link_ != nullptr && step_ != nullptr) link_->close();  // it may wait for the event loop, which has ended
  if (thread_.joinable()) thread_.join();
  if (link_ != nullptr) link_->linger(kLingerMs);
  if (step_ != nullptr) report(log_, step_->messages);
  shared::Exchange wants;
  wants.counters = zone_.read_counters();
  if (mind_ != nullptr) {
    report(log_, mind_->flush(std::move(*wants.counters), unix_ms()));
  } else if (!wants.counters->empty()) {
    // Nobody knows who ends last, so all write; one of them tells of trouble.
    wants.counters_only = true;
    auto errors = make_store(conf_, zone_, nullptr)->exchange(wants).errors;
    std::uint64_t told = zone_.header().ended_ms.load(), now = monotonic_ms();
    bool tell =
        told + kTellAgainMs < now && !errors.empty() && zone_.header().ended_ms.compare_exchange_strong(told, now);
    for (const auto& error : errors) {
      if (tell) ngx_log_error(NGX_LOG_ERR, log_, 0, "experiment: %s", error.c_str());
    }
  }
  release_lease();
  forget();
}

}  // namespace experiment::ngx
