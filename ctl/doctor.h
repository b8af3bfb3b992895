// experimentctl doctor: what is wrong with a store, its edges and its files, and what to change.
#pragma once

#include "ctl/open_store.h"
#include "ctl/state.h"

namespace experiment::ctl {

// Returns an exit code; kRefused: there are findings.
int doctor(const StoreArguments& arguments, State& state);

}  // namespace experiment::ctl
