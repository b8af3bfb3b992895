// Which store a state directory belongs to: that of a fleet, as its file `fleet.json` says, or none but itself.
//
// Written by the leader of an edge that shares a store, taken away by one that does not; read by tools, which must not
// take such a directory for the store. Writers hold the directory's lock.
#pragma once

#include <string>

#include "shared/state_directory.h"

namespace experiment::shared {

class EdgeDirectory {
 public:
  explicit EdgeDirectory(const StateDirectory& directory);

  // URL, without user and password, and namespace of the store; empty: the directory is a store of its own.
  std::string store() const;
  // Makes it that store's. Returns: what went wrong, empty when nothing did.
  std::string take(const std::string& store) const;
  // Makes it a store of its own.
  void leave() const;

 private:
  std::string path_;
};

// The store of EdgeDirectory::store() as options of experimentctl: "--store URL --namespace NAME".
std::string store_options(const std::string& store);

}  // namespace experiment::shared
