// Requests whose exposures this worker has just marked in the filter: a visitor's next page needs no look-up per
// experiment there. A cache of fixed size in the worker's own memory; whatever falls out is looked up again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace experiment::ngx {

class RecentExposures {
 public:
  // Whether these exposures were marked since the filter's last rotation; they count as marked from here on.
  // `signature` names units, experiments and epochs: 64 well mixed bits, not 0.
  bool was_here(std::uint64_t signature, std::uint64_t rotations) noexcept {
    if (rotations != rotations_) forget(rotations);
    std::uint64_t& place = places_[signature >> (64 - kBits)];
    bool known = place == signature;
    place = signature;
    return known;
  }

 private:
  [[gnu::noinline]] void forget(std::uint64_t rotations) noexcept {
    places_.fill(0);
    rotations_ = rotations;
  }

  static constexpr int kBits = 13;  // 64 KiB
  std::array<std::uint64_t, std::size_t{1} << kBits> places_{};
  std::uint64_t rotations_ = 0;
};

}  // namespace experiment::ngx
