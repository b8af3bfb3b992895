#include "ctl/author.h"

#include <pwd.h>
#include <unistd.h>

namespace experiment::ctl {

std::string author() {
  const struct passwd* user = ::getpwuid(::getuid());
  return "experimentctl (user " + (user != nullptr ? std::string(user->pw_name) : std::to_string(::getuid())) + ")";
}

}  // namespace experiment::ctl
