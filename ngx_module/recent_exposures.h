// Requests whose exposures this worker has just marked in the filter: a visitor's next page needs no look-up per
// experiment there. A cache of fixed size in the worker's own memory; whatever falls out is looked up again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace experiment::ngx {

class RecentExposures {
 public:
  // Whether these exposures were marked since the filter's last rotation. `signature` names units, experiments and
  // epochs: 64 well mixed bits, not 0.
  bool has(std::uint64_t signature, std::uint64_t rotations) const noexcept {
    return places_[place_of(signature)] == signature && rotations == rotations_;
  }
  void add(std::uint64_t signature, std::uint64_t rotations) noexcept {
    if (rotations != rotations_) places_.fill(0);
    rotations_ = rotations;
    places_[place_of(signature)] = signature;
  }

 private:
  static constexpr int kBits = 13;  // 64 KiB
  static std::size_t place_of(std::uint64_t signature) noexcept { return signature >> (64 - kBits); }
  std::array<std::uint64_t, std::size_t{1} << kBits> places_{};
  std::uint64_t rotations_ = 0;
};

}  // namespace experiment::ngx
