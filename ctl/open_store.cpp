#include "ctl/open_store.h"

#include <sys/stat.h>

#include <cerrno>

#include "shared/file_store.h"
#include "shared/state_files.h"

namespace experiment::ctl {

std::unique_ptr<shared::Store> open_store(const StoreArguments& arguments, std::string& error) {
  struct stat status;
  if (::stat(arguments.state.c_str(), &status) != 0) {
    error = shared::describe_error(arguments.state, errno) + "; expected a state directory";
  } else if (!S_ISDIR(status.st_mode)) {
    error = arguments.state + ": no directory; expected a state directory";
  } else {
    return std::make_unique<shared::FileStore>(arguments.state);
  }
  return nullptr;
}

}  // namespace experiment::ctl
