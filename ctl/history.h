// experimentctl history: the documents that were published, and the text of one of them, to publish it again.
#pragma once

#include <cstdint>

#include "ctl/state.h"

namespace experiment::ctl {

// `version`: whose text is printed; 0: a line for each, newest first.
int history(std::uint64_t version, State& state);

}  // namespace experiment::ctl
