#include "shared/redis_login.h"

#include <openssl/crypto.h>

#include <string_view>
#include <utility>

#include "shared/redis_topology.h"
#include "shared/state_files.h"

namespace experiment::shared {
namespace {

constexpr std::size_t kMaxFileBytes = 4096;

}  // namespace

RedisLogin login_for(const RedisAccess& access) {
  RedisLogin login;
  if (access.password_file.empty()) return login;
  FileText file = read_file(access.password_file, kMaxFileBytes);
  const std::string_view text = file.text;
  std::string_view password = text.substr(0, text.find('\n'));
  if (!password.empty() && password.back() == '\r') password.remove_suffix(1);
  if (!file.error.empty())
    login.error = "the password cannot be read (" + file.error + ")";
  else if (password.empty())
    login.error = "the password cannot be read (" + access.password_file + ": the first line is empty)";
  else if (access.user.empty())
    login.command = format_command({"AUTH", password});  // also before 6.0, where there are no users
  else
    login.command = format_command({"AUTH", access.user, password});
  wipe(file.text);
  return login;
}

std::string login_error(const RedisReply& reply, bool& refused) {
  refused = true;
  if (reply.is_text() && reply.text == "OK") return {};
  switch (fault_of(reply)) {
    case RedisFault::kNoPasswordSet:  // sentinels often have none where their servers do
      return {};
    case RedisFault::kWrongPass:
      return "user or password is wrong, or the user is disabled (WRONGPASS)";
    case RedisFault::kNoPerm:
      return "the server lets nobody in from here, or the user not use AUTH (DENIED or NOPERM)";
    default:
      break;
  }
  refused = !reply.is_error() || reply.text.find("max number of clients") == std::string::npos;
  return refused ? "AUTH was answered by neither OK nor a known refusal" : "the server has no room for another client";
}

void wipe(std::string& text) noexcept {
  OPENSSL_cleanse(text.data(), text.size());
  text.clear();
}

}  // namespace experiment::shared
