// How a connection to a server logs in: AUTH with what RedisAccess names.
//
// Used by both forms of RedisLink for each new connection, in their threads. The password goes from its file into the
// command and nowhere else: no text here repeats it, or what a server says to it.
#pragma once

#include <string>

#include "shared/redis_link.h"
#include "shared/redis_reply.h"

namespace experiment::shared {

struct RedisLogin {
  std::string command;  // as of format_command; empty: there is nothing to log in with. To be wiped when it was sent
  std::string error;    // why the password cannot be had; only an operator can mend that
};
// Reads the password's file, which blocks as files do.
RedisLogin login_for(const RedisAccess& access);

// Of the reply to that command. Returns: why we are not logged in; empty if we are. `refused`: only an operator can
// mend it.
std::string login_error(const RedisReply& reply, bool& refused);

// Overwrites a text that held a secret.
void wipe(std::string& text) noexcept;

}  // namespace experiment::shared
