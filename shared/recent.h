// What this worker has just found out and need not find out again: caches of fixed size in its own memory.
#pragma once

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "shared/bots.h"

namespace experiment::shared {

// Requests whose exposures were just marked in the filter: a visitor's next page needs no look-up per experiment there.
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

// Agents as they came, so that nobody can make one pass for another: few are on most requests, and looking for a dozen
// words in each costs more than the rest of a decision.
class RecentAgents {
 public:
  bool is_bot(std::string_view agent) noexcept {
    if (agent.size() > kMaxBytes) return shared::is_bot(agent);
    Known& known = places_[place_of(agent)];
    if (known.size != agent.size() || std::memcmp(known.text.data(), agent.data(), agent.size()) != 0) {
      known.bot = shared::is_bot(agent);
      known.size = static_cast<std::uint16_t>(agent.size());
      std::memcpy(known.text.data(), agent.data(), agent.size());
    }
    return known.bot;
  }

 private:
  static constexpr int kBits = 7;
  static constexpr std::size_t kMaxBytes = 252;
  struct Known {
    std::uint16_t size = 0;
    bool bot = false;
    std::array<char, kMaxBytes> text;
  };
  static std::size_t place_of(std::string_view agent) noexcept {
    return XXH3_64bits(agent.data(), agent.size()) >> (64 - kBits);
  }
  std::array<Known, std::size_t{1} << kBits> places_;
};

struct Recent {
  RecentExposures exposures;
  RecentAgents agents;
};

}  // namespace experiment::shared
