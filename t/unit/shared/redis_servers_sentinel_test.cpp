// RedisServers with real sentinels: a master, a replica and three who watch them, with failovers of both kinds.
#include <gtest/gtest.h>

#include <string>

#include "ctl/redis_socket.h"
#include "shared/redis_servers.h"
#include "shared/redis_topology.h"
#include "t/unit/shared/redis_process.h"

namespace experiment::shared {
namespace {

using Clock = std::chrono::steady_clock;

const RedisCall kIncrement{"x:n", "", {"INCR", "x:n"}, false};
const RedisCall kLease{"x:ctl", "experiment_lease", {"edge-1", "10000"}, false};

class Sentinel {
 public:
  Sentinel(const RedisEndpoint& master, const std::string& password) {
    const std::string port = std::to_string(port_);
    const std::string conf = folder_.write(
        "sentinel.conf", "port " + port + "\nbind 127.0.0.1\ndir " + folder_.path() +
                             "\nsentinel monitor main 127.0.0.1 " + std::to_string(master.port) +
                             " 2\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n" +
                             (password.empty() ? "" : "sentinel auth-pass main " + password + "\n"));
    process_.start({"redis-sentinel", conf});
  }
  RedisEndpoint endpoint() const { return {"127.0.0.1", port_, ""}; }
  RedisReply run(const std::vector<std::string_view>& words) { return command(link_, endpoint(), words); }
  void end() { process_.end(SIGKILL); }

 private:
  TemporaryFolder folder_;
  std::uint16_t port_ = free_port();
  ChildProcess process_;
  ctl::RedisSocket link_{patient()};
};

class RedisServersAtSentinels : public testing::Test {
 protected:
  // `password`: of the servers; the sentinels have none.
  explicit RedisServersAtSentinels(const std::string& password = "") : password_(password) {
    EXPECT_EQ(at(two_, {"REPLICAOF", "127.0.0.1", std::to_string(one_.endpoint().port)}).text, "OK");
    for (int i = 0; i < 3; ++i) sentinels_.push_back(std::make_unique<Sentinel>(one_.endpoint(), password_));
    StoreUrl url{RedisTopology::kSentinel, false, {}, "main"};
    for (const auto& sentinel : sentinels_) {
      url.endpoints.push_back(sentinel->endpoint());
      EXPECT_TRUE(wait_until(
          [&] { return knows(*sentinel, "num-slaves", "1") && knows(*sentinel, "num-other-sentinels", "2"); }));
    }
    servers_ = std::make_unique<RedisServers>(url, link_, true);
  }
  RedisAccess access() const {
    RedisAccess access;
    if (!password_.empty()) access.password_file = one_.folder().write("password", password_);
    access.command_ms = 1000;
    return access;
  }
  std::vector<std::string> options() const {
    if (password_.empty()) return {};
    return {"--requirepass", password_, "--masterauth", password_};
  }
  static bool knows(Sentinel& sentinel, const std::string& name, const std::string& value) {
    const RedisReply reply = sentinel.run({"SENTINEL", "MASTER", "main"});
    for (std::size_t i = 0; i + 1 < reply.items.size(); i += 2)
      if (reply.items[i].text == name) return reply.items[i + 1].text == value;
    return false;
  }
  RedisReply at(RedisProcess& server, const std::vector<std::string_view>& words) {
    ctl::RedisSocket link(access_);
    return command(link, server.endpoint(), words);
  }
  bool promoted(RedisProcess& server) {
    return wait_until([&] { return is_master_role(at(server, {"ROLE"})); });
  }
  // Calls until one succeeds. Returns: its count.
  std::int64_t count() {
    std::int64_t counted = 0;
    EXPECT_TRUE(wait_until([&] { return (counted = servers_->call({kIncrement}).replies[0].integer) > 0; }));
    return counted;
  }
  double seconds_until_counted(std::int64_t expected) {
    const Clock::time_point start = Clock::now();
    EXPECT_EQ(count(), expected);
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  const std::string password_;
  RedisProcess one_{options()}, two_{options()};
  const RedisAccess access_ = access();
  std::vector<std::unique_ptr<Sentinel>> sentinels_;
  ctl::RedisSocket link_{access_};
  std::unique_ptr<RedisServers> servers_;
};

TEST_F(RedisServersAtSentinels, AFailoverThatIsWished) {
  EXPECT_EQ(count(), 1);
  EXPECT_EQ(servers_->call({kLease}).replies[0].items.at(0).integer, 1);
  EXPECT_EQ(at(one_, {"WAIT", "1", "1000"}).integer, 1);
  EXPECT_EQ(sentinels_[1]->run({"SENTINEL", "FAILOVER", "main"}).text, "OK");
  ASSERT_TRUE(promoted(two_));
  // For some seconds the old master still thinks that it is one, and what it is told is lost.
  EXPECT_TRUE(wait_until([&] { return servers_->masters() == std::vector<RedisEndpoint>{two_.endpoint()}; }, 3));
  EXPECT_EQ(count(), 2);
  EXPECT_EQ(servers_->call({kLease}).replies[0].items.at(0).integer, 1);  // functions are replicated
}

TEST_F(RedisServersAtSentinels, AMasterThatDies) {
  EXPECT_EQ(count(), 1);
  EXPECT_EQ(at(one_, {"WAIT", "1", "1000"}).integer, 1);
  sentinels_[0]->end();  // two are enough
  one_.end(SIGKILL);
  EXPECT_EQ(servers_->call({kIncrement}).replies[0].text.find("LINK "), 0u);
  ASSERT_TRUE(promoted(two_));
  EXPECT_LT(seconds_until_counted(2), 4);  // sentinels tell each other every two seconds
  one_.start();
  EXPECT_EQ(count(), 3);  // the old master is back, and thinks that it is one still
}

class RedisServersWithAPassword : public RedisServersAtSentinels {
 protected:
  RedisServersWithAPassword() : RedisServersAtSentinels("geheim") {}
};

TEST_F(RedisServersWithAPassword, AMasterThatHangs) {
  EXPECT_EQ(count(), 1);
  EXPECT_EQ(at(one_, {"WAIT", "1", "1000"}).integer, 1);
  one_.signal(SIGSTOP);
  EXPECT_EQ(servers_->call({kIncrement}).replies[0].text.find("LINK "), 0u);
  ASSERT_TRUE(promoted(two_));
  EXPECT_LT(seconds_until_counted(2), 4);  // sentinels tell each other every two seconds
  one_.signal(SIGCONT);
  EXPECT_EQ(count(), 3);
}

}  // namespace
}  // namespace experiment::shared
