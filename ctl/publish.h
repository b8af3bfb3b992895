// experimentctl publish FILE: makes a document what every node follows, and says before what that changes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ctl/state.h"

namespace experiment::ctl {

struct PublishOptions {
  std::string file;                       // a path, or - for standard input
  std::string reason;                     // for the audit log; may be empty
  std::optional<std::uint64_t> expected;  // the version that has to stand
  bool dry_run = false;
};

// Returns an exit code; kStaysKilled: it is published, and something that it wants running stays killed.
int publish(const PublishOptions& options, State& state);

}  // namespace experiment::ctl
