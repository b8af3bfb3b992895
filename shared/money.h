// Amounts: decimal text to integers of 10^-scale, and the sums that goals count. Integers only: no rounding error piles
// up.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace experiment::shared {

// "19.99" with scale 2 is 1999; rounded half to even; exponents as JSON has them. Returns: nullopt for anything that is
// not a non-negative decimal number (empty, sign, NaN, Infinity, blanks); amounts beyond 2^53 - 1 are that.
std::optional<std::uint64_t> parse_amount(std::string_view text, int scale) noexcept;

// Q of a visitor's sum that goes from s to s + x, in steps of max / 10^4: round(((s + x)^2 - s^2) / (max / 10^4)^2).
// Requires: 0 < max, s + x <= max.
std::uint64_t square_steps(std::uint64_t s, std::uint64_t x, std::uint64_t max) noexcept;

}  // namespace experiment::shared
