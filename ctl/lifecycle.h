// experimentctl start, freeze, stop, conclude, archive: what an experiment is wanted to be, edited in the document that
// stands and published.
#pragma once

#include <string>

#include "ctl/document_edit.h"
#include "ctl/state.h"

namespace experiment::ctl {

struct LifecycleOptions {
  std::string verb, key;
  std::string reason;  // for the audit log
  DesiredEdit edit;
};

// Returns an exit code; kStaysKilled: it is published, and the experiment stays killed.
int change_desired(const LifecycleOptions& options, State& state);

}  // namespace experiment::ctl
