#include "ctl/redis_socket.h"

#include <gtest/gtest.h>
#include <netinet/tcp.h>

#include <array>
#include <chrono>
#include <string>
#include <thread>

#include "shared/redis_topology.h"
#include "t/unit/shared/redis_process.h"

namespace experiment::ctl {
namespace {

using shared::command;
using shared::format_command;
using shared::patient;
using shared::RedisAccess;
using shared::RedisEndpoint;
using shared::RedisProcess;
using shared::RedisReply;
using shared::RedisRoundTrip;

double seconds_of(const std::function<void()>& what) {
  const auto start = std::chrono::steady_clock::now();
  what();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

RedisRoundTrip ping(shared::RedisLink& link, const RedisEndpoint& to) {
  return link.round_trip(to, {format_command({"PING"})});
}

TEST(RedisSocket, PipelinesOverTcpAndUnixSockets) {
  RedisProcess server;
  RedisSocket link(patient());
  for (const RedisEndpoint& to : {server.endpoint(), server.socket()}) {
    const RedisRoundTrip trip = link.round_trip(
        to, {format_command({"SET", "k", "v"}), format_command({"INCR", "k"}), format_command({"GET", "k"})});
    EXPECT_EQ(trip.error, "");
    ASSERT_EQ(trip.replies.size(), 3u);
    EXPECT_EQ(trip.replies[0].text, "OK");
    EXPECT_TRUE(trip.replies[1].is_error());
    EXPECT_EQ(trip.replies[2].text, "v");
  }
  EXPECT_EQ(link.round_trip(server.endpoint(), {}).error, "");
}

TEST(RedisSocket, KeepsItsConnections) {
  RedisProcess server;
  RedisSocket link(patient());
  const std::string id = std::to_string(command(link, server.endpoint(), {"CLIENT", "ID"}).integer);
  EXPECT_EQ(std::to_string(command(link, server.endpoint(), {"CLIENT", "ID"}).integer), id);
  link.keep_only({server.endpoint()});
  EXPECT_EQ(std::to_string(command(link, server.endpoint(), {"CLIENT", "ID"}).integer), id);
  link.keep_only({server.socket()});
  EXPECT_NE(std::to_string(command(link, server.endpoint(), {"CLIENT", "ID"}).integer), id);
}

TEST(RedisSocket, NoticesThatTheServerHungUp) {
  RedisProcess server;
  RedisSocket link(patient());
  const std::string id = std::to_string(command(link, server.endpoint(), {"CLIENT", "ID"}).integer);
  EXPECT_EQ(server.run({"CLIENT", "KILL", "ID", id}).integer, 1);
  EXPECT_EQ(ping(link, server.endpoint()).error, "");
  server.end(SIGKILL);
  const RedisRoundTrip trip = ping(link, server.endpoint());
  EXPECT_EQ(trip.error, describe(server.endpoint()) + ": no connection: Connection refused");
  EXPECT_TRUE(trip.away);
  EXPECT_FALSE(trip.refused);
  server.start();
  EXPECT_EQ(ping(link, server.endpoint()).error, "");
}

TEST(RedisSocket, SaysThatThereIsNoServer) {
  RedisSocket link(patient());
  EXPECT_EQ(ping(link, {"127.0.0.1", shared::free_port(), ""}).error.find("no connection"), 17u);
  EXPECT_EQ(ping(link, {"", 0, "/nowhere/socket"}).error,
            "unix:/nowhere/socket: no connection: No such file or directory");
  const RedisRoundTrip trip = ping(link, {"no-such-host.invalid", 1, ""});
  EXPECT_EQ(trip.error.find("no-such-host.invalid:1: the name cannot be resolved: "), 0u) << trip.error;
  EXPECT_TRUE(trip.away);
}

TEST(RedisSocket, AHangingServerEndsTheWait) {
  RedisProcess server;
  RedisAccess access;
  access.command_ms = 500;
  RedisSocket link(access);
  EXPECT_EQ(ping(link, server.endpoint()).error, "");
  server.signal(SIGSTOP);
  RedisRoundTrip trip;
  const double waited = seconds_of([&] { trip = ping(link, server.endpoint()); });
  EXPECT_EQ(trip.error, describe(server.endpoint()) + ": no answer in time");
  EXPECT_FALSE(trip.away);  // it may have been done
  EXPECT_GE(waited, 0.49);
  EXPECT_LT(waited, 3);
  server.signal(SIGCONT);
  EXPECT_TRUE(shared::wait_until([&] { return ping(link, server.endpoint()).error.empty(); }));
}

TEST(RedisSocket, BigCommandsAndReplies) {
  RedisProcess server;
  RedisAccess access;
  access.command_ms = 10'000;
  RedisSocket link(access);
  const std::string big(3'000'000, 'b');
  std::vector<std::string> commands;
  for (int i = 0; i < 10; ++i) {
    commands.push_back(format_command({"SET", "big", big}));
    commands.push_back(format_command({"GET", "big"}));
  }
  const RedisRoundTrip trip = link.round_trip(server.endpoint(), commands);
  EXPECT_EQ(trip.error, "");
  ASSERT_EQ(trip.replies.size(), 20u);
  EXPECT_EQ(trip.replies[19].text, big);
  command(link, server.endpoint(), {"CONFIG", "SET", "proto-max-bulk-len", "1gb"});
  const RedisReply tiny = command(link, server.endpoint(), {"SETRANGE", "huge", "17000000", "x"});
  EXPECT_TRUE(tiny.is_integer());
  EXPECT_EQ(command(link, server.endpoint(), {"GET", "huge"}).text,
            "LINK " + describe(server.endpoint()) +
                ": what came is not a reply: a string beyond the limit of bytes, 16777216");
  EXPECT_EQ(ping(link, server.endpoint()).error, "");
}

class RedisSocketLogin : public testing::Test {
 protected:
  std::string error(const std::string& user, const std::string& password) {
    RedisAccess access;
    access.user = user;
    access.password_file = server_.folder().write("password", password + "\n");
    RedisSocket link(patient(access));
    trip_ = ping(link, server_.endpoint());
    EXPECT_EQ(trip_.error.find("geheim"), std::string::npos);
    EXPECT_EQ(trip_.error.empty(), !trip_.away);
    return trip_.error;
  }
  RedisProcess server_;
  RedisRoundTrip trip_;
};

TEST_F(RedisSocketLogin, UsersAndPasswords) {
  const std::string wrong =
      describe(server_.endpoint()) + ": user or password is wrong, or the user is disabled (WRONGPASS)";
  EXPECT_EQ(error("", "geheim"), "");  // nobody asks for one
  EXPECT_EQ(error("edge", "geheim"), wrong);
  EXPECT_TRUE(trip_.refused);
  server_.run({"ACL", "SETUSER", "edge", "on", ">geheim2", "+ping"});
  EXPECT_EQ(error("edge", "geheim2"), "");
  server_.run({"CONFIG", "SET", "requirepass", "geheim"});
  EXPECT_EQ(error("", "geheim"), "");
  EXPECT_EQ(error("default", "geheim"), "");
  EXPECT_EQ(error("", "geheim1"), wrong);
  EXPECT_TRUE(trip_.refused);
  RedisSocket without(patient());
  EXPECT_EQ(ping(without, server_.endpoint()).replies.at(0).text, "NOAUTH Authentication required.");
}

TEST_F(RedisSocketLogin, ReadsThePasswordAnewForEachConnection) {
  server_.run({"CONFIG", "SET", "requirepass", "one"});
  RedisAccess access;
  access.password_file = server_.folder().write("password", "one");
  RedisSocket link(patient(access));
  const std::string id = std::to_string(command(link, server_.endpoint(), {"CLIENT", "ID"}).integer);
  server_.folder().write("password", "two");
  command(link, server_.endpoint(), {"CONFIG", "SET", "requirepass", "two"});
  EXPECT_EQ(server_.run({"CLIENT", "KILL", "ID", id}).integer, 1);
  EXPECT_EQ(ping(link, server_.endpoint()).error, "");
  access.password_file = server_.folder().path() + "/missing";
  RedisSocket missing(patient(access));
  const RedisRoundTrip trip = ping(missing, server_.endpoint());
  EXPECT_NE(trip.error.find("the password cannot be read"), std::string::npos);
  EXPECT_TRUE(trip.refused && trip.away);
}

TEST_F(RedisSocketLogin, TheTimeToConnectHoldsForIt) {
  RedisAccess access;
  access.password_file = server_.folder().write("password", "geheim");
  access.connect_ms = 200;
  RedisSocket link(access);
  server_.signal(SIGSTOP);
  const double waited = seconds_of([&] { trip_ = ping(link, server_.endpoint()); });
  EXPECT_TRUE(trip_.away);
  EXPECT_FALSE(trip_.refused);
  EXPECT_LT(waited, 3);
}

// Answers whatever comes first on each connection by the same bytes, in pieces, and hangs up.
class Answering {
 public:
  Answering(std::string answer, std::size_t piece) : answer_(std::move(answer)), piece_(piece) {
    listening_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    socklen_t size = sizeof address;
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listening_, reinterpret_cast<const sockaddr*>(&address), size), 0);  // a port that is free
    EXPECT_EQ(listen(listening_, 10), 0);
    EXPECT_EQ(getsockname(listening_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~Answering() {
    shutdown(listening_, SHUT_RDWR);
    thread_.join();
    close(listening_);
  }
  RedisEndpoint endpoint() const { return {"127.0.0.1", port_, ""}; }

 private:
  void serve() const {
    for (;;) {
      const int one = accept(listening_, nullptr, nullptr);
      if (one < 0) return;
      const int on = 1;
      setsockopt(one, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      std::array<char, 4096> asked;
      if (recv(one, asked.data(), asked.size(), 0) > 0) {
        for (std::size_t i = 0; i < answer_.size(); i += piece_) {
          const std::string_view bytes = std::string_view(answer_).substr(i, piece_);
          send(one, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        }
      }
      close(one);
    }
  }
  std::string answer_;
  std::size_t piece_;
  std::uint16_t port_ = 0;
  int listening_ = -1;
  std::thread thread_;
};

// Returns: what ping() says of a server that answers so, without its name; "ok" if nothing is wrong.
std::string answered_by(const std::string& answer, std::size_t piece = 1 << 20) {
  const Answering server(answer, piece);
  RedisSocket link(patient());
  const RedisRoundTrip trip = ping(link, server.endpoint());
  EXPECT_FALSE(trip.away || trip.refused);
  return trip.error.empty() ? "ok" : trip.error.substr(describe(server.endpoint()).size() + 2);
}

TEST(RedisSocket, WhatIsNoReplyIsAnError) {
  const std::string no_reply = "what came is not a reply: ";
  EXPECT_EQ(answered_by("+PONG\r\n"), "ok");
  EXPECT_EQ(answered_by("+PONG\r\n", 1), "ok");
  EXPECT_EQ(answered_by("HTTP/1.1 400 Bad Request\r\n"), no_reply + "Protocol error, got \"H\" as reply type byte");
  EXPECT_EQ(answered_by("*2147483647\r\n"), no_reply + "arrays beyond the limit of elements, 200000");
  EXPECT_EQ(answered_by("$-9\r\n"), no_reply + "Bulk string length out of range");
  EXPECT_EQ(answered_by("%1\r\n+a\r\n+b\r\n").find(no_reply), 0u);
  EXPECT_EQ(answered_by("+PONG\r\n+PONG\r\n"), "more came than was asked for");
  EXPECT_EQ(answered_by(""), "the server closed the connection");
}

TEST(RedisSocket, AReplyThatIsCutAnywhereIsNone) {
  const std::string whole = "*2\r\n$3\r\nabc\r\n:1\r\n";
  for (std::size_t n = 0; n < whole.size(); ++n)
    EXPECT_EQ(answered_by(whole.substr(0, n)), "the server closed the connection") << n;
}

TEST(RedisSocket, SaysWhatTheServerSaidBeforeItHungUp) {
  const Answering server("-ERR max number of clients reached\x1b\r\n", 100);
  RedisSocket link(patient());
  const RedisRoundTrip trip = link.round_trip(server.endpoint(), {format_command({"PING"}), format_command({"PING"})});
  EXPECT_EQ(trip.error, describe(server.endpoint()) +
                            ": the server closed the connection after: ERR max number of clients reached?");
  EXPECT_EQ(trip.replies.size(), 1u);
}

}  // namespace
}  // namespace experiment::ctl
