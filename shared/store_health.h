// How a node gets on with its fleet's store: figures for the metrics, which outlive the leader that made them.
//
// Lies in the zone. Written by the leader's step, in its thread, and read by any worker: single lock-free words.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace experiment::shared {

enum class StoreFault : std::uint8_t {
  kUnreachable,  // no connection, no answer in time, no master
  kAuth,         // password, certificate or rights
  kUnwritable,   // it reads only: full, read-only, no replica
  kBusy,         // it will be there again by itself: loads its data, is busy, elects a master
  kLibrary,      // the library of functions is missing
  kRefused,      // what was sent
  kOther,
  kCount
};
inline constexpr std::size_t kStoreFaults = static_cast<std::size_t>(StoreFault::kCount);

struct StoreHealth {
  std::atomic<std::uint64_t> answered_ms;  // steady_ms() when it said last what is new, or since when it is asked
  std::atomic<std::uint64_t> away;         // 1: not reached since then
  std::atomic<std::uint64_t> rejoins;      // it came back after an outage
  std::array<std::atomic<std::uint64_t>, kStoreFaults> faults;  // calls that met one, by cause
};
// The clock of `answered_ms`: one for all processes of the machine.
inline std::uint64_t steady_ms() noexcept {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace experiment::shared
