#include "bandit/slot_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

namespace experiment::bandit {
namespace {

// Left to right, as any other implementation is to add. nullopt: no usable sum.
std::optional<double> sum_of(const std::vector<double>& weights) {
  double sum = 0;
  for (double weight : weights) {
    if (!std::isfinite(weight) || weight < 0) return std::nullopt;
    sum += weight;
  }
  if (!std::isfinite(sum) || sum <= 0) return std::nullopt;
  return sum;
}

// Takes a decimal without sign or leading zeroes off the front of `text`.
std::optional<int> take_number(std::string_view& text) {
  int value = 0;
  const char* end = text.data() + text.size();
  if (text.empty() || text.front() < '0' || text.front() > '9') return std::nullopt;
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{}) return std::nullopt;
  const auto digits = static_cast<std::size_t>(stop - text.data());
  if (text.front() == '0' && digits > 1) return std::nullopt;
  text.remove_prefix(digits);
  return value;
}

bool take_char(std::string_view& text, char c) {
  if (text.empty() || text.front() != c) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::optional<Quotas> quotas_of(const std::vector<double>& weights) {
  if (weights.empty() || weights.size() > kMaxArms) return std::nullopt;
  const std::optional<double> sum = sum_of(weights);
  if (!sum) return std::nullopt;

  Quotas quotas(weights.size());
  std::vector<double> remainders(weights.size());
  for (std::size_t arm = 0; arm < weights.size(); ++arm) {
    const double exact = weights[arm] / *sum * kSlots;
    const double whole = std::floor(exact);
    quotas[arm] = static_cast<int>(whole);
    remainders[arm] = exact - whole;
  }
  std::vector<std::size_t> order(weights.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return remainders[a] > remainders[b]; });
  const int rest = kSlots - std::accumulate(quotas.begin(), quotas.end(), 0);
  for (int i = 0; i < rest; ++i) ++quotas[order[static_cast<std::size_t>(i)]];
  return quotas;
}

SlotTable contiguous_table(const Quotas& quotas) {
  SlotTable table{};
  auto next = table.begin();
  for (std::size_t arm = 0; arm < quotas.size(); ++arm) {
    next = std::fill_n(next, quotas[arm], static_cast<std::uint8_t>(arm));
  }
  return table;
}

SlotTable moved_table(const SlotTable& before, const Quotas& quotas) {
  Quotas missing = quotas;  // what each arm still has to get; negative: what it has to give up
  for (std::uint8_t arm : before) {
    if (arm < missing.size()) --missing[arm];
  }
  std::vector<std::size_t> released;
  for (std::size_t s = kSlots; s-- > 0;) {
    const std::uint8_t arm = before[s];
    if (arm < missing.size()) {
      if (missing[arm] >= 0) continue;
      ++missing[arm];
    }
    released.push_back(s);
  }
  SlotTable table = before;
  for (std::size_t arm = 0; arm < missing.size(); ++arm) {
    for (; missing[arm] > 0; --missing[arm], released.pop_back())
      table[released.back()] = static_cast<std::uint8_t>(arm);
  }
  return table;
}

Quotas quotas_in(const SlotTable& table, int arms) {
  Quotas quotas(static_cast<std::size_t>(arms));
  for (std::uint8_t arm : table) {
    if (arm < quotas.size()) ++quotas[arm];
  }
  return quotas;
}

std::string encode_runs(const SlotTable& table) {
  std::string text;
  for (auto run = table.begin(); run != table.end();) {
    const auto end = std::find_if(run, table.end(), [&](std::uint8_t arm) { return arm != *run; });
    if (!text.empty()) text += ',';
    text += std::to_string(*run) + '*' + std::to_string(end - run);
    run = end;
  }
  return text;
}

std::optional<SlotTable> decode_runs(std::string_view runs, int arms) {
  SlotTable table{};
  int filled = 0;
  int last_arm = -1;
  do {
    const std::optional<int> arm = take_number(runs);
    if (!arm || *arm >= std::min(arms, kMaxArms) || *arm == last_arm || !take_char(runs, '*')) return std::nullopt;
    const std::optional<int> length = take_number(runs);
    if (!length || *length == 0 || *length > kSlots - filled) return std::nullopt;
    std::fill_n(table.begin() + filled, *length, static_cast<std::uint8_t>(*arm));
    filled += *length;
    last_arm = *arm;
  } while (take_char(runs, ','));
  if (!runs.empty() || filled != kSlots) return std::nullopt;
  return table;
}

}  // namespace experiment::bandit
