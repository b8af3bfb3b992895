#include "ngx_module/store_password.h"

#include "shared/state_files.h"

namespace experiment::ngx {
namespace {

constexpr std::size_t kMaxFileBytes = 4096;

}  // namespace

std::string read_password(const std::string& path, std::string& error) {
  shared::FileText file = shared::read_file(path, kMaxFileBytes);
  if (!file.error.empty()) {
    error = file.error + "; expected a file whose first line is the password";
    return {};
  }
  std::string line = file.text.substr(0, file.text.find('\n'));
  if (!line.empty() && line.back() == '\r') line.pop_back();
  if (line.empty()) error = path + ": empty, expected a file whose first line is the password";
  return line;
}

std::string current_password(const StoreConf& store) {
  if (store.access.password_file.empty()) return {};
  std::string error;
  std::string now = read_password(store.access.password_file, error);
  return error.empty() ? now : store.password;
}

}  // namespace experiment::ngx
