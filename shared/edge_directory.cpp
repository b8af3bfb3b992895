#include "shared/edge_directory.h"

#include <unistd.h>

#include "shared/checked_json.h"
#include "shared/state_files.h"

namespace experiment::shared {
namespace {

constexpr std::size_t kMaxBytes = 65536;

}  // namespace

EdgeDirectory::EdgeDirectory(const StateDirectory& directory) : path_(directory.file("fleet.json")) {}

std::string EdgeDirectory::store() const {
  std::string error;
  const auto state = open_state(read_file(path_, kMaxBytes).text, error);
  if (!state || !state->is_object()) return {};
  const auto store = state->find("store");
  return store != state->end() && store->is_string() ? store->get<std::string>() : std::string();
}

std::string EdgeDirectory::take(const std::string& store) const {
  return replace_file(path_, seal_state({{"store", store}}));
}

void EdgeDirectory::leave() const {
  ::unlink(path_.c_str());
}

std::string store_options(const std::string& store) {
  const std::size_t space = store.rfind(' ');
  const std::string url = "--store " + store.substr(0, space);
  return space == std::string::npos ? url : url + " --namespace " + store.substr(space + 1);
}

}  // namespace experiment::shared
