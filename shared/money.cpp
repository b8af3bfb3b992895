#include "shared/money.h"

namespace experiment::shared {
namespace {

constexpr std::uint64_t kMost = (std::uint64_t{1} << 53) - 1;

bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

// The exponent behind e or E; false when it is none. Saturates far beyond any amount.
bool read_exponent(std::string_view text, int& out) noexcept {
  bool negative = !text.empty() && text[0] == '-';
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  if (text.empty()) return false;
  int value = 0;
  for (char c : text) {
    if (!is_digit(c)) return false;
    value = value > 999 ? value : value * 10 + (c - '0');
  }
  out = negative ? -value : value;
  return true;
}

}  // namespace

std::optional<std::uint64_t> parse_amount(std::string_view text, int scale) noexcept {
  if (text.empty() || text.size() > 64 || !is_digit(text[0])) return std::nullopt;
  std::size_t mantissa_end = text.find_first_of("eE");
  int exponent = 0;
  if (mantissa_end != text.npos && !read_exponent(text.substr(mantissa_end + 1), exponent)) return std::nullopt;
  std::string_view mantissa = text.substr(0, mantissa_end);
  std::size_t point = mantissa.find('.');
  std::size_t whole = point == mantissa.npos ? mantissa.size() : point;
  if (point != mantissa.npos && (point + 1 == mantissa.size() || mantissa.find('.', point + 1) != mantissa.npos))
    return std::nullopt;

  // Digits before position `keep` of the mantissa (the point left out) make the integer; the rest decides the rounding.
  std::int64_t keep = static_cast<std::int64_t>(whole) + exponent + scale;
  std::uint64_t amount = 0;
  std::int64_t position = 0;
  int half =
      -1;  // -1: below half so far undecided, then comparison of the rest with one half: 0 below, 1 equal, 2 above
  bool huge = false;
  for (char c : mantissa) {
    if (c == '.') continue;
    if (!is_digit(c)) return std::nullopt;
    if (position < keep) {
      amount = amount * 10 + static_cast<std::uint64_t>(c - '0');
      huge = huge || amount > kMost;
      if (huge) amount = kMost;
    } else if (position == keep) {
      half = c > '5' ? 2 : c == '5' ? 1 : 0;
    } else if (half == 1 && c != '0') {
      half = 2;
    }
    ++position;
  }
  if (keep < 0) half = 0;  // the first digit stands at least one place behind the rounded one
  for (; position < keep && amount != 0 && !huge; ++position) {
    amount *= 10;
    huge = amount > kMost;
  }
  if (huge) return kMost;
  if (half == 2 || (half == 1 && amount % 2 == 1)) ++amount;
  return amount > kMost ? kMost : amount;
}

std::uint64_t square_steps(std::uint64_t s, std::uint64_t x, std::uint64_t max) noexcept {
  // ((s + x)^2 - s^2) = x (2 s + x), at most max^2, so the result is at most 10^8: long double carries far more bits.
  auto square = static_cast<long double>(x) * (2 * static_cast<long double>(s) + static_cast<long double>(x));
  long double steps = square / max / max * 1e8L;
  return static_cast<std::uint64_t>(steps + 0.5L);
}

}  // namespace experiment::shared
