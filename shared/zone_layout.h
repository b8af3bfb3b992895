// What lies in the shared zone: plain layout, no pointers, no vtables, only lock-free fields. The snapshot and the
// fleet use the same rows.
//
// Workers, the leader and two configurations during a reload look at one zone at the same time, and any of them may be
// killed at any instruction. So: what a request touches are single atomic words; everything else is written once,
// before the one store that publishes it. A change of this file is a new kLayoutVersion: a zone with another version is
// refused, never guessed at.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "bandit/definition.h"
#include "bandit/epoch.h"
#include "bandit/rule.h"
#include "shared/arena.h"
#include "shared/store_health.h"

namespace experiment::shared {

inline constexpr std::uint64_t kZoneMagic = 0x31656e6f7a707865;  // "expzone1"
inline constexpr std::uint32_t kLayoutVersion = 3;
inline constexpr int kMaxStripes = 8;
inline constexpr int kMaxWorkers = 256;  // worker processes that look at the zone, draining ones included
inline constexpr int kMaxBlocks = 8192;  // experiments with their retired generations
inline constexpr int kTableChains = 256;
inline constexpr std::uint32_t kMaskExperiment = 1U << 31;

// Upper bounds of the latency buckets in milliseconds; the last bucket has none.
inline constexpr std::array<std::uint32_t, 11> kLatencyBoundsMs{5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000};
inline constexpr int kLatencyBuckets = static_cast<int>(kLatencyBoundsMs.size()) + 1;
inline constexpr int kStatusClasses = 5;
inline constexpr int kCacheStatuses = 8;  // nginx's NGX_HTTP_CACHE_MISS .. SCARCE, from 1

using Counter = std::atomic<std::uint64_t>;
static_assert(Counter::is_always_lock_free && sizeof(Counter) == 8);

struct Latency {
  std::array<Counter, kLatencyBuckets> buckets;
  Counter sum_ms;
};

// Requests of one arm (row 0: baseline, row 1 + a: arm a), one per stripe.
struct alignas(64) RequestCounters {
  std::array<Counter, kStatusClasses> status;  // 1xx .. 5xx
  std::array<Counter, kCacheStatuses> cache;   // by cache status - 1
  Counter bytes_sent;
  Counter upstream_failures;  // requests in which an upstream peer failed or answered 5xx, whatever the client saw
  Latency request;
  Latency upstream;
  // Totals of all epochs, for metrics that must not go back when an epoch is dropped; rare events.
  Counter exposures;
  std::array<Counter, bandit::kMaxGoals> rewards;       // units with a reward, by goal number
  std::array<Counter, bandit::kMaxGoals> reward_value;  // in 10^-scale
};

// What is counted for an experiment as a whole, one per stripe.
struct alignas(64) ExperimentCounters {
  std::array<Counter, static_cast<std::size_t>(bandit::Reason::kCount)> decisions;  // requests by reason, once each
  Counter rewards_late;       // after the goal's window, or for an epoch that is sealed
  Counter rewards_duplicate;  // once per unit, or the same id again
  Counter rewards_unexposed;  // the unit was not in the experiment
  Counter rewards_refused;    // value missing, negative or not a number
};

// What is counted for the node, one per stripe.
struct alignas(64) NodeCounters {
  Counter units_minted;
  Counter headers_stripped;  // inbound assignment headers taken out
  Counter cookies_refused;   // assignment cookies with a bad MAC, version, key or form
  Counter rewards_replayed;  // reward headers on answers that did not come from upstream
  Counter rewards_unknown;   // goals that no definition has
  Counter beacons_accepted;
  Counter beacons_refused;  // malformed bodies
  Counter not_isolated;     // stored answers served without our Vary to a visitor with a cohort
  Counter not_stored;       // answers kept out of the cache, because Vary would not fit or they carried a reward
};

struct EpochBlock {
  enum State : std::uint32_t { kOpen = 1, kSealed = 2 };
  std::uint64_t id;
  std::uint16_t arms, goals, columns;
  std::array<std::uint16_t, bandit::kMaxArms> quotas;
  std::atomic<std::uint32_t> state;
  std::atomic<Offset> table;  // of a TableBlock; 0 once nobody is assigned by it
  Counter counters[1];        // (1 + arms) * columns, see shared/counters.h

  static std::uint64_t bytes(int arms, int columns) noexcept {
    return sizeof(EpochBlock) + sizeof(Counter) * static_cast<std::uint64_t>((1 + arms) * columns - 1);
  }
};

// Allocation tables are interned: equal ones are one block.
struct TableBlock {
  std::uint64_t hash;
  std::atomic<std::uint64_t> references;
  std::atomic<Offset> next;  // of the chain that starts in the header, by hash
  std::uint8_t arm_of_slot[bandit::kSlots];
};

struct ExperimentBlock {
  char key[bandit::kMaxKeyBytes + 8];
  std::uint32_t generation;
  std::atomic<std::uint32_t> mask;  // bit a: arm a is killed; kMaskExperiment: all of it
  std::atomic<Offset> current;      // the EpochBlock that assigns; 0: not running yet
  std::array<std::atomic<std::uint32_t>, bandit::kMaxArms>
      best_ppm;                        // 1 + P(arm is best) in 10^-6 at the last look; 0: not known here
  std::atomic<std::uint64_t> retired;  // plan version from which on no plan knows it; 0: alive
  std::atomic<Offset> counters;        // ExperimentCounters[stripes]
  std::array<std::atomic<Offset>, bandit::kMaxArms + 1> requests;  // RequestCounters[stripes] by row
  std::array<std::atomic<Offset>, bandit::kEpochRing>
      epochs;  // not sealed ones, and sealed ones until their totals are stored
};

// The document as workers read it: entries, then texts. Written whole before its offset is published.
struct ImageEntry {
  std::uint64_t text_hash;               // equal hash and block: the worker keeps what it compiled
  std::uint32_t text_begin, text_bytes;  // from the start of the image
  Offset block;                          // ExperimentBlock; 0: the zone is full, the experiment is off
};
struct DocumentImage {
  std::uint64_t checksum;  // XXH3_64 of everything behind this field; first, as that is where a freed block is linked
  std::uint64_t version;   // plan version
  std::uint64_t bytes;     // all of it
  std::uint64_t document_version;
  std::uint32_t count;
  std::uint32_t padding;
  ImageEntry entries[1];
};

// Runtime state that is ahead of the store, in the store's own checksummed form.
struct UnsavedRuntime {
  std::uint64_t bytes;  // of the text
  char text[1];
};

struct WorkerSlot {
  std::atomic<std::uint32_t> pid;           // 0: free
  std::atomic<std::uint64_t> plan_version;  // of the oldest plan that a request of it still uses
};

struct alignas(64) ZoneHeader {
  std::uint64_t magic;  // written last
  std::uint32_t layout_version;
  std::uint32_t stripes;
  std::uint64_t bytes;
  std::uint64_t filter_bytes;
  std::array<char, 24> instance;  // 22 base64url characters: this zone's identity in the store
  std::array<char, 320> keys;     // text of a key file: signs where neither nginx.conf nor the store has one
  Offset filter;
  Offset node_counters;  // NodeCounters[stripes]
  Offset blocks;         // std::atomic<Offset>[kMaxBlocks] of ExperimentBlocks
  alignas(64) std::atomic<std::uint32_t> kill_all;
  std::atomic<std::uint32_t> adopted;                    // 1 once a leader has brought runtime and document in
  std::atomic<Offset> image;                             // DocumentImage; 0: none yet
  std::atomic<std::uint64_t> plan_version;               // of that image
  std::array<std::atomic<Offset>, kTableChains> tables;  // chains of TableBlocks
  // Room for images, kept from blocks while these are made; a leader that was killed left it to the next.
  std::array<std::atomic<Offset>, 2> reserve;
  std::atomic<std::uint64_t> reserve_bytes;  // of each
  std::atomic<Offset>
      unsaved;  // UnsavedRuntime: what the store did not take yet, for the next leader; 0: all is stored
  alignas(64) std::atomic<std::uint64_t> leader;  // pid of the worker that leads; 0: none
  std::atomic<std::uint64_t> leader_until_ms;     // CLOCK_MONOTONIC
  std::atomic<std::uint64_t> ended_ms;            // CLOCK_MONOTONIC, when a worker that ended last told of trouble
  std::atomic<std::uint64_t> zone_full;           // experiments that are off because the zone is full
  StoreHealth store;                              // with experiment_store
  ArenaState arena;
  std::array<WorkerSlot, kMaxWorkers> workers;
};

}  // namespace experiment::shared
