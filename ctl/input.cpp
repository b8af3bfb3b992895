#include "ctl/input.h"

#include <iostream>
#include <iterator>

namespace experiment::ctl {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{64} << 20;

}  // namespace

shared::FileText read_input(const std::string& file) {
  if (file != "-") return shared::read_file(file, kMaxBytes);
  shared::FileText input;
  input.text.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  return input;
}

}  // namespace experiment::ctl
