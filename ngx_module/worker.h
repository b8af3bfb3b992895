// The worker process: its view of the zone, the plan that requests begin with, its keys and randomness, and the timer
// that keeps up.
//
// One object per worker process (or per single process), made in init_process, ended in exit_process; the module's only
// mutable global. Cache managers and loaders have none. Everything here runs on the event loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ngx_module/conf.h"
#include "ngx_module/plan.h"
#include "shared/key_ring.h"
#include "shared/zone.h"

namespace experiment::ngx {

// The plan that new requests pin; nullptr: none yet, nobody is enrolled.
Plan* current_plan() noexcept;
// Frees a plan that nothing refers to any more.
void drop_plan(Plan* plan) noexcept;
// Ends a hold on a plan.
inline void release_plan(Plan* plan) noexcept {
  if (--plan->references == 0) drop_plan(plan);
}
const shared::KeyRing& worker_keys() noexcept;
// Of the ring that this worker uses; empty: it has none yet.
std::string worker_keys_fingerprint();
std::vector<std::string> worker_key_fingerprints();
const shared::Zone& worker_zone() noexcept;
std::uint32_t worker_stripe() noexcept;
// This worker's stripe of the node's counters.
shared::NodeCounters& worker_counters() noexcept;
// Warns once per worker that a cookie lost its __Host- prefix, because the request came over plain http.
void warn_plain_cookie(ngx_http_request_t* r, const CookieName& name) noexcept;
// False: the system has none to give.
bool random_bytes(std::uint8_t* out, std::size_t n) noexcept;
std::uint64_t random_bits() noexcept;

ngx_int_t start_worker(ngx_cycle_t* cycle) noexcept;
void end_worker(ngx_cycle_t* cycle) noexcept;

}  // namespace experiment::ngx
