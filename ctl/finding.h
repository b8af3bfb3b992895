// What doctor found.
#pragma once

#include <string>

namespace experiment::ctl {

struct Finding {
  std::string what;  // place and fault
  std::string fix;   // what to change
};

}  // namespace experiment::ctl
