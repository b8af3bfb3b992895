// The leader of a node: the one worker that reads and writes the store, allocates, and keeps the zone in line.
//
// Every worker has a Leader object and offers to lead; a lease in the zone says who does, taken over within two seconds
// when its holder dies. Store work runs in a thread of its own that lives for one step; the zone is written on the
// event loop, in slices. Not nginx's thread pool: that is 32 threads in every worker, and a process that ever had a
// thread pays for each malloc and writev.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "ngx_module/conf.h"
#include "ngx_module/redis_link.h"
#include "shared/conductor.h"
#include "shared/zone_sync.h"

namespace experiment::ngx {

class Leader {
 public:
  // `wake` is called on the event loop when tick() is wanted before its turn.
  Leader(const MainConf& conf, const shared::Zone& zone, std::function<void()> wake, ngx_log_t* log);
  ~Leader();
  Leader(const Leader&) = delete;
  Leader& operator=(const Leader&) = delete;

  // Leads when nobody does, with a first step inline, so that a started worker serves what the store knows. Otherwise
  // waits a moment for whoever leads to have done so. Called once, at worker start.
  void start();
  // Called by the worker's timer: renews or takes the lease, goes on with what is being shown or begins a step.
  void tick();
  // Whether the last step's outcome is only shown in part: tick() is wanted again soon, not in its turn.
  bool hurries() const noexcept { return sync_ != nullptr && sync_->under_way(); }
  // Whether a step is under way, whose end tick() will see.
  bool waits() const noexcept { return step_ != nullptr; }
  // Whether the store tells of a change that no step has looked at yet.
  bool is_pushed() const noexcept { return pushed_; }
  // The worker drains its last requests, for as long as these take: somebody else leads from now on.
  void step_down();
  // At the end of the worker: the zone's totals to the store, inline; the lease goes to the next.
  void end();

 private:
  struct Step;
  bool hold_lease() noexcept;
  void release_lease() noexcept;
  void ensure_mind();
  void forget() noexcept;
  std::unique_ptr<Step> next_step();
  const std::string& current_report();
  void begin_step();
  void end_step();
  void finish(Step& step);
  void show(Step* step);
  void tell_full(std::vector<std::string> full);

  const MainConf& conf_;
  shared::Zone zone_;
  std::function<void()> wake_;
  ngx_log_t* log_;
  std::unique_ptr<RedisLink> link_;          // while leading, with experiment_store
  std::unique_ptr<shared::Conductor> mind_;  // while leading; its store uses the link
  std::unique_ptr<shared::ZoneSync> sync_;
  std::uint64_t applied_changes_ = ~std::uint64_t{0};
  std::vector<std::string> said_full_;  // of what the zone has no room for
  ngx_msec_t collected_ms_ = 0;
  ngx_msec_t flushed_ms_ = 0;
  ngx_msec_t requests_ms_ = 0;
  std::string report_;                                // of this edge, for the store
  std::pair<std::uint64_t, std::uint64_t> reported_;  // versions of document and runtime state that it names
  ngx_msec_t reported_ms_ = 0;
  bool pushed_ = false;
  bool leaving_ = false;
  bool lost_ = false;           // somebody else took the lease while a step was under way
  std::unique_ptr<Step> step_;  // under way
  std::thread thread_;          // that takes it
};

}  // namespace experiment::ngx
