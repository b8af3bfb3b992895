// Reads a beacon's JSON: an event {"goal":"purchase","value":19.99,"id":"o-1"}, or an array of them. Other members are
// skipped, of equal ones the last counts.
//
// On the request path: no heap. Strings are unescaped where they stand, so the text is changed and the events point
// into it. No state, no locking.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace experiment::shared {

inline constexpr int kMaxBeaconEvents = 20;
inline constexpr int kMaxBeaconDepth = 32;  // open arrays and objects

struct BeaconEvent {
  bool valid = false;  // an object with a goal, of which each known member has the right type
  std::string_view goal;
  std::string_view value;  // decimal, numbers in their shortest form; empty: none
  std::string_view id;
};
struct BeaconEvents {
  std::array<BeaconEvent, kMaxBeaconEvents> items;
  int count = 0;
};

// Requires: text[n] is writable and NUL. Returns: false when the text is not one JSON text in UTF-8, is nested deeper
// than kMaxBeaconDepth or holds more than kMaxBeaconEvents.
[[nodiscard]] bool read_beacon(char* text, std::size_t n, BeaconEvents& events) noexcept;

}  // namespace experiment::shared
