// Where the state is that a verb works on: from arguments to a Store. The one place that knows which kinds there are.
#pragma once

#include <memory>
#include <string>

#include "shared/redis_link.h"
#include "shared/redis_servers.h"
#include "shared/store.h"

namespace experiment::ctl {

struct StoreArguments {
  std::string state;                      // --state: a state directory
  std::string url;                        // --store: a fleet's Redis, as in experiment_store
  std::string name_space = "experiment";  // --namespace, and the rest of --store
  shared::RedisAccess access;
  bool given() const { return !state.empty() || !url.empty(); }
  bool is_directory() const { return !state.empty(); }
  // How messages call it.
  const std::string& place() const { return is_directory() ? state : url; }
};

// Nothing is made where there is no store. Returns nullptr and in `error` what was expected.
std::unique_ptr<shared::Store> open_store(const StoreArguments& arguments, std::string& error);

// Why no document is to be written there, and where instead; empty where it may be. A fleet's edge has a directory, but
// takes its documents from the fleet.
std::string refuse_documents(const StoreArguments& arguments);

// The servers of a --store, over a link of their own, for doctor. Returns nullptr and in `error` what was expected.
class LinkedServers;
std::unique_ptr<LinkedServers> open_servers(const StoreArguments& arguments, std::string& error);

}  // namespace experiment::ctl
