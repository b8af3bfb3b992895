#include "ctl/open_store.h"

#include <sys/stat.h>

#include <cerrno>
#include <random>

#include "ctl/linked_servers.h"
#include "shared/edge_directory.h"
#include "shared/file_store.h"
#include "shared/redis_store.h"
#include "shared/state_files.h"

namespace experiment::ctl {
namespace {

std::uint64_t random_bits() {
  static std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

// Made before the store that uses it, and gone after it.
struct Link {
  explicit Link(const shared::RedisAccess& access) : link(access) {}
  RedisSocket link;
};
class RemoteStore : private Link, public shared::RedisStore {
 public:
  RemoteStore(const shared::StoreUrl& url, const StoreArguments& arguments, const shared::RedisAccess& access)
      : Link(access),
        RedisStore(std::make_unique<shared::RedisServers>(url, link, true),
                   shared::RedisStoreOptions{arguments.name_space, {}, {}}, random_bits) {}
};

// nullopt: what is wrong stands in `error`.
std::optional<shared::StoreUrl> url_of(const StoreArguments& arguments, shared::RedisAccess& access,
                                       std::string& error) {
  auto url = shared::parse_store_url(arguments.url, error);
  if (url && !shared::is_namespace(arguments.name_space)) {
    error = "\"" + arguments.name_space + "\", expected a namespace of letters, digits, \"_\", \"-\" and \".\"";
    url.reset();
  }
  access = arguments.access;
  access.tls = url && url->tls;
  return url;
}

std::unique_ptr<shared::Store> open_directory(const std::string& directory, std::string& error) {
  struct stat status;
  if (::stat(directory.c_str(), &status) != 0) {
    error = shared::describe_error(directory, errno) + "; expected a state directory";
  } else if (!S_ISDIR(status.st_mode)) {
    error = directory + ": no directory; expected a state directory";
  } else {
    return std::make_unique<shared::FileStore>(directory);
  }
  return nullptr;
}

}  // namespace

std::unique_ptr<shared::Store> open_store(const StoreArguments& arguments, std::string& error) {
  if (arguments.is_directory()) return open_directory(arguments.state, error);
  shared::RedisAccess access;
  const auto url = url_of(arguments, access, error);
  return url ? std::make_unique<RemoteStore>(*url, arguments, access) : nullptr;
}

std::string refuse_documents(const StoreArguments& arguments) {
  if (!arguments.is_directory()) return {};
  const std::string store = shared::EdgeDirectory(shared::StateDirectory(arguments.state)).store();
  if (store.empty()) return {};
  return arguments.state +
         " belongs to an edge of a fleet, which takes its document from there; nothing was changed: use " +
         shared::store_options(store);
}

std::unique_ptr<LinkedServers> open_servers(const StoreArguments& arguments, std::string& error) {
  shared::RedisAccess access;
  const auto url = url_of(arguments, access, error);
  return url ? std::make_unique<LinkedServers>(*url, access) : nullptr;
}

}  // namespace experiment::ctl
