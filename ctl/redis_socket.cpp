#include "ctl/redis_socket.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "shared/redis_login.h"
#include "shared/redis_topology.h"

namespace experiment::ctl {
namespace {

Deadline in(int ms) {
  return std::chrono::steady_clock::now() + std::chrono::milliseconds(ms);
}

}  // namespace

struct RedisSocket::Connection {
  std::uint64_t id = 0;
  std::unique_ptr<ByteStream> stream;
  shared::RedisReader reader;

  // Sends commands and reads `count` replies to the end of `replies`.
  StreamFault exchange(std::string_view commands, std::size_t count, std::vector<shared::RedisReply>& replies,
                       Deadline deadline) {
    std::string wrong;
    const auto take = [&](std::string_view bytes) {
      if (!reader.feed(bytes)) wrong = "what came is not a reply: " + reader.error();
      while (auto reply = reader.next()) {
        if (replies.size() == count)
          wrong = "more came than was asked for";
        else
          replies.push_back(std::move(*reply));
      }
      return wrong.empty() && replies.size() < count;
    };
    StreamFault fault = stream->exchange(commands, take, deadline);
    if (fault.text.empty()) fault.text = wrong;
    // What the server said before it hung up: that it has no room, or lets nobody in from here.
    const bool begun = !replies.empty() && replies.size() < count;
    if (!fault.text.empty() && wrong.empty() && begun && replies.front().is_error())
      fault.text += " after: " + shared::printable(replies.front().text);
    return fault;
  }
};

RedisSocket::RedisSocket(shared::RedisAccess access) : access_(std::move(access)) {
  if (access_.tls) tls_ = std::make_unique<TlsClient>(access_);
}
RedisSocket::~RedisSocket() = default;

StreamFault RedisSocket::log_in(Connection& connection, Deadline deadline) const {
  shared::RedisLogin login = shared::login_for(access_);
  if (!login.error.empty()) return {login.error, true};
  if (login.command.empty()) return {};
  std::vector<shared::RedisReply> replies;
  StreamFault fault = connection.exchange(login.command, 1, replies, deadline);
  shared::wipe(login.command);
  if (fault.text.empty()) fault.text = shared::login_error(replies[0], fault.refused);
  return fault;
}

std::unique_ptr<RedisSocket::Connection> RedisSocket::connect(const shared::RedisEndpoint& to,
                                                              shared::RedisRoundTrip& trip) {
  const Deadline deadline = in(access_.connect_ms);
  StreamFault fault;
  auto connection = std::make_unique<Connection>();
  connection->stream = ByteStream::open(to, tls_.get(), deadline, fault);
  if (connection->stream != nullptr) fault = log_in(*connection, deadline);
  connection->id = ++made_;
  if (fault.text.empty()) return connection;
  trip.error = describe(to) + ": " + fault.text;
  trip.refused = fault.refused;
  trip.away = true;
  return nullptr;
}

shared::RedisRoundTrip RedisSocket::round_trip(const shared::RedisEndpoint& to,
                                               const std::vector<std::string>& commands) {
  shared::RedisRoundTrip trip;
  if (commands.empty()) return trip;
  auto kept = connections_.extract(to);  // it goes back when all went well
  std::unique_ptr<Connection> connection;
  if (!kept.empty() && kept.mapped()->stream->idle()) connection = std::move(kept.mapped());
  if (connection == nullptr) connection = connect(to, trip);
  if (connection == nullptr) return trip;
  trip.connection = connection->id;
  std::string all;
  for (const std::string& command : commands) all += command;
  const StreamFault fault = connection->exchange(all, commands.size(), trip.replies, in(access_.command_ms));
  if (fault.text.empty()) {
    connections_[to] = std::move(connection);
  } else {
    trip.error = describe(to) + ": " + fault.text;
    trip.refused = fault.refused;
  }
  return trip;
}

void RedisSocket::keep_only(const std::vector<shared::RedisEndpoint>& endpoints) {
  for (auto it = connections_.begin(); it != connections_.end();) {
    const bool kept = std::find(endpoints.begin(), endpoints.end(), it->first) != endpoints.end();
    it = kept ? std::next(it) : connections_.erase(it);
  }
}

}  // namespace experiment::ctl
