// The password of experiment_store: read by the master, and read again by a worker that may.
#pragma once

#include <string>

#include "ngx_module/store_conf.h"

namespace experiment::ngx {

// The first line of `path`. Returns: empty, and in `error` the path and what is wrong with it, never its content.
std::string read_password(const std::string& path, std::string& error);
// For a connection that is made now: the file's where this process can read it, else what the master read. Empty: none
// is needed.
std::string current_password(const StoreConf& store);

}  // namespace experiment::ngx
