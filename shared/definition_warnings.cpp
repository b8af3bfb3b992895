#include "shared/definition_warnings.h"

#include <algorithm>
#include <utility>

namespace experiment::shared {
namespace {

// The known name that was probably meant: at most two edits away, and not by replacing more than half of the name.
std::string_view nearest_name(std::string_view name, const std::vector<std::string_view>& known) {
  constexpr std::size_t kFarthest = 2, kLongestName = 40;
  std::string_view nearest;
  if (name.size() > kLongestName) return nearest;
  std::size_t least = std::min(kFarthest, name.size() / 2) + 1;
  for (const std::string_view candidate : known) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < least) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace

void Warnings::add(std::string warning) {
  if (list_.size() < kMost) {
    list_.push_back(std::move(warning));
  } else {
    ++dropped_;
  }
}

std::vector<std::string> Warnings::take() {
  if (dropped_ > 0) list_.push_back("and " + std::to_string(dropped_) + " more warnings");
  dropped_ = 0;
  return std::exchange(list_, {});
}

void warn_of_unknown_members(const Node& object, const std::vector<std::string_view>& known, Warnings& warnings) {
  for (const auto& [name, value] : object.value().items()) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::string warning = "at " + object.find(name)->path() + ": unknown member, ignored";
    const std::string_view nearest = nearest_name(name, known);
    if (!nearest.empty()) warning += "; did you mean \"" + std::string(nearest) + "\"?";
    warnings.add(std::move(warning));
  }
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) above[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, replaced});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(above);
    above.swap(row);
  }
  return above[b.size()];
}

}  // namespace experiment::shared
