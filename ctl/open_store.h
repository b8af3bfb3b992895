// Where the state is that a verb works on: from arguments to a Store. The one place that knows which kinds there are.
#pragma once

#include <memory>
#include <string>

#include "shared/store.h"

namespace experiment::ctl {

struct StoreArguments {
  std::string state;  // --state: a state directory
  bool given() const { return !state.empty(); }
  bool is_directory() const { return !state.empty(); }
  // How messages call it.
  const std::string& place() const { return state; }
};

// Nothing is made where there is no store. Returns nullptr and in `error` what was expected.
std::unique_ptr<shared::Store> open_store(const StoreArguments& arguments, std::string& error);

}  // namespace experiment::ctl
