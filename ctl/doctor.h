// experimentctl doctor: what is wrong with a store, its edges and its files, and what to change.
#pragma once

#include "ctl/open_store.h"
#include "ctl/state.h"

namespace experiment::ctl {

// Returns an exit code; kRefused: there are findings.
// `load`: puts this version of the library on the servers of a fleet first.
int doctor(const StoreArguments& arguments, bool load, State& state);

}  // namespace experiment::ctl
