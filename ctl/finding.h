// What doctor found.
#pragma once

#include <set>
#include <string>

namespace experiment::ctl {

struct Finding {
  std::string what;  // place and fault
  std::string fix;   // what to change
};

// Names as findings list them: separated by commas.
inline std::string joined(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace experiment::ctl
