// What a document may say but had better not: unknown members (kept in the document, ignored here) and features that
// this build lacks.
//
// Filled by the readers, handed to the publisher by definition_json; capped, so that a document of 5,000 experiments
// with one odd member each does not flood a log. No locking.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "shared/definition_node.h"

namespace experiment::shared {

class Warnings {
 public:
  static constexpr std::size_t kMost = 100;

  void add(std::string warning);
  // The warnings in order of finding; beyond kMost one line with the number of the others.
  std::vector<std::string> take();

 private:
  std::vector<std::string> list_;
  std::size_t dropped_ = 0;
};

// Warns of each member of `object` that is not in `known`, with the nearest known name where a typing error is likely.
void warn_of_unknown_members(const Node& object, const std::vector<std::string_view>& known, Warnings& warnings);

// Edit distance with transpositions of neighbours (Damerau 1964; the form in which no letter is edited twice), of which
// `weigth` for `weight` is one. Cost is the product of the lengths.
std::size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace experiment::shared
