// How long a piece of work in the zone or on a plan may hold up the event loop, before requests have their turn.
//
// Asked after each experiment: what one of these takes comes on top.
#pragma once

#include <time.h>

#include <cstdint>

namespace experiment::ngx {

class Slice {
 public:
  static constexpr std::uint64_t kNs = 500 * 1000;

  Slice() noexcept : end_ns_(now_ns() + kNs) {}
  // Whether it has taken long enough.
  bool operator()() const noexcept { return now_ns() >= end_ns_; }

 private:
  static std::uint64_t now_ns() noexcept {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1000000000 + static_cast<std::uint64_t>(now.tv_nsec);
  }

  std::uint64_t end_ns_;
};

}  // namespace experiment::ngx
