// RedisServers with a real cluster: three masters with a replica each, of which one dies, and slots that move.
#include <gtest/gtest.h>

#include <array>
#include <string>

#include "ctl/redis_socket.h"
#include "shared/redis_library.h"
#include "shared/redis_servers.h"
#include "shared/redis_topology.h"
#include "t/unit/shared/redis_process.h"

namespace experiment::shared {
namespace {

constexpr int kMasters = 3;

class Cluster {
 public:
  Cluster() {
    for (int i = 0; i < 2 * kMasters; ++i)
      nodes_.push_back(std::make_unique<RedisProcess>(std::vector<std::string>{
          "--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0"}));
    for (int i = 0; i < kMasters; ++i) {
      node(i).run({"CLUSTER", "ADDSLOTSRANGE", std::to_string(first(i)), std::to_string(first(i + 1) - 1)});
      node(i).run({"CLUSTER", "SET-CONFIG-EPOCH", std::to_string(i + 1)});
    }
    for (const auto& one : nodes_)
      node(0).run(
          {"CLUSTER", "MEET", "127.0.0.1", std::to_string(one->endpoint().port), std::to_string(one->cluster_port())});
    wait_for("all nodes", [](RedisProcess& one) { return has(one, "cluster_known_nodes:6"); });
    for (int i = 0; i < kMasters; ++i) node(kMasters + i).run({"CLUSTER", "REPLICATE", id(i)});
    wait_for("a whole cluster", [](RedisProcess& one) { return has(one, "cluster_state:ok"); });
    wait_for("replicas", [](RedisProcess& one) {
      return one.run({"INFO", "replication"}).text.find("connected_slaves:1") != std::string::npos ||
             one.run({"INFO", "replication"}).text.find("master_link_status:up") != std::string::npos;
    });
  }
  RedisProcess& node(int i) { return *nodes_[i]; }
  std::string id(int i) { return node(i).run({"CLUSTER", "MYID"}).text; }
  StoreUrl url() { return {RedisTopology::kCluster, false, {node(0).endpoint(), node(1).endpoint()}, ""}; }
  // Which master has the slot of a key in the beginning.
  static int master_of(const std::string& key) {
    int i = 0;
    while (key_slot(key) >= first(i + 1)) ++i;
    return i;
  }
  // Makes a replica the master. The others vote once in two timeouts, so it may take more than one try.
  bool promote(int replica) {
    const auto is_master = [&] { return is_master_role(node(replica).run({"ROLE"})); };
    for (int i = 0; i < 5 && !is_master(); ++i) {
      node(replica).run({"CLUSTER", "FAILOVER"});
      wait_until(is_master, 3);
    }
    return is_master();
  }
  static int first(int master) { return master * kRedisSlots / kMasters; }
  static bool has(RedisProcess& one, const std::string& line) {
    return one.run({"CLUSTER", "INFO"}).text.find(line) != std::string::npos;
  }

 private:
  void wait_for(const std::string& what, const std::function<bool(RedisProcess&)>& holds) {
    for (const auto& one : nodes_)
      if (!wait_until([&] { return holds(*one); })) throw std::runtime_error("no " + what + " in time");
  }
  std::vector<std::unique_ptr<RedisProcess>> nodes_;
};

RedisCall increment(const std::string& key) {
  return {key, "", {"INCR", key}, false};
}
RedisCall get(const std::string& key) {
  return {key, "", {"GET", key}, true};
}
RedisCall lease(const std::string& key) {
  return {key, "experiment_lease", {"edge-1", "10000"}, false};
}

std::string faults_of(const RedisAnswers& answers) {
  std::string all;
  for (const std::string& fault : answers.faults) all += fault + "\n";
  return all;
}

// One cluster for all: it takes seconds to form. Each test leaves it whole, with its slots where they were.
class RedisServersInCluster : public testing::Test {
 protected:
  static void SetUpTestSuite() { cluster_ = std::make_unique<Cluster>(); }
  static void TearDownTestSuite() { cluster_.reset(); }
  static std::unique_ptr<Cluster> cluster_;

  RedisServersInCluster() {
    for (int i = 0; i < kMasters; ++i) cluster_->node(i).run({"FLUSHALL"});
  }
  void set_slot(std::uint16_t slot, int node, const std::string& what, const std::string& id) {
    const RedisReply reply = what == "STABLE"
                                 ? cluster_->node(node).run({"CLUSTER", "SETSLOT", std::to_string(slot), what})
                                 : cluster_->node(node).run({"CLUSTER", "SETSLOT", std::to_string(slot), what, id});
    EXPECT_EQ(reply.text, "OK");
  }
  void move_keys(std::uint16_t slot, int from, int to) {
    for (const RedisReply& key :
         cluster_->node(from).run({"CLUSTER", "GETKEYSINSLOT", std::to_string(slot), "100"}).items)
      EXPECT_EQ(
          cluster_->node(from)
              .run({"MIGRATE", "127.0.0.1", std::to_string(cluster_->node(to).endpoint().port), key.text, "0", "1000"})
              .text,
          "OK");
  }

  ctl::RedisSocket link_{patient()};
  RedisServers servers_{cluster_->url(), link_, true};
};
std::unique_ptr<Cluster> RedisServersInCluster::cluster_;

TEST_F(RedisServersInCluster, EachKeyAtItsMaster) {
  std::vector<RedisCall> calls;
  std::array<int, kMasters> at{};
  for (int i = 0; i < 300; ++i) {
    const std::string key = "experiment:c:e" + std::to_string(i) + (i % 3 == 0 ? ":{tag}" : ":1");
    EXPECT_EQ(cluster_->node(0).run({"CLUSTER", "KEYSLOT", key}).integer, key_slot(key)) << key;
    ++at[Cluster::master_of(key)];
    calls.push_back(increment(key));
  }
  const RedisAnswers answers = servers_.call(calls);
  EXPECT_EQ(faults_of(answers), "");
  for (const RedisReply& reply : answers.replies) EXPECT_EQ(reply.integer, 1) << reply.text;
  for (int i = 0; i < kMasters; ++i) {
    EXPECT_GT(at[i], 50);
    EXPECT_EQ(cluster_->node(i).run({"DBSIZE"}).integer, at[i]);
  }
  EXPECT_EQ(servers_.masters().size(), 3u);
}

TEST_F(RedisServersInCluster, TheLibraryOnEveryMaster) {
  for (int i = 0; i < kMasters; ++i) cluster_->node(i).run({"FUNCTION", "FLUSH"});
  EXPECT_EQ(servers_.load_library(), std::vector<std::string>{});
  for (int i = 0; i < kMasters; ++i) EXPECT_EQ(cluster_->node(i).run({"FUNCTION", "LIST"}).items.size(), 1u);
  cluster_->node(1).run({"FUNCTION", "FLUSH"});
  const RedisAnswers answers = servers_.call({lease("a"), lease("b"), lease("c")});
  EXPECT_EQ(faults_of(answers), "");
  for (const RedisReply& reply : answers.replies) EXPECT_EQ(reply.items.at(0).integer, 1) << reply.text;
}

// While a slot moves, key by key, as redis-cli does it: each call is done once, wherever its key is.
TEST_F(RedisServersInCluster, ASlotThatMoves) {
  const std::string tag = "{moving}";
  const std::uint16_t slot = key_slot(tag);
  const int from = Cluster::master_of(tag), to = (from + 1) % kMasters;
  const std::vector<RedisCall> calls = {increment("old" + tag), increment("new" + tag), lease("lease" + tag)};
  std::int64_t old_count = 0, new_count = 0;
  const auto check = [&](bool with_new) {
    const RedisAnswers answers = servers_.call(with_new ? calls : std::vector<RedisCall>{calls[0], calls[2]});
    EXPECT_EQ(faults_of(answers), "");
    EXPECT_EQ(answers.replies[0].integer, ++old_count) << answers.replies[0].text;
    if (with_new) {
      EXPECT_EQ(answers.replies[1].integer, ++new_count) << answers.replies[1].text;
    }
    EXPECT_EQ(answers.replies.back().items.at(0).integer, 1) << answers.replies.back().text;
  };
  check(false);
  cluster_->node(to).run({"FUNCTION", "FLUSH"});  // where ASK leads, the library is missing
  set_slot(slot, to, "IMPORTING", cluster_->id(from));
  set_slot(slot, from, "MIGRATING", cluster_->id(to));
  check(true);  // "old" still here, "new" there by ASK
  check(true);
  move_keys(slot, from, to);
  check(true);  // all by ASK
  set_slot(slot, to, "NODE", cluster_->id(to));
  check(true);  // "from" does not know yet
  set_slot(slot, from, "NODE", cluster_->id(to));
  check(true);  // MOVED
  check(true);
  ctl::RedisSocket link(patient());
  RedisServers stranger(cluster_->url(), link, false);
  EXPECT_EQ(stranger.call({get("old" + tag)}).replies[0].text, std::to_string(old_count));
  EXPECT_EQ(cluster_->node(to).run({"CLUSTER", "COUNTKEYSINSLOT", std::to_string(slot)}).integer, 3);

  set_slot(slot, from, "IMPORTING", cluster_->id(to));
  set_slot(slot, to, "MIGRATING", cluster_->id(from));
  move_keys(slot, to, from);
  check(true);
  set_slot(slot, from, "NODE", cluster_->id(from));
  set_slot(slot, to, "NODE", cluster_->id(from));
  check(true);
}

TEST_F(RedisServersInCluster, ASlotThatNobodyServes) {
  const std::string key = "{nobody}";
  const int master = Cluster::master_of(key);
  const std::string slot = std::to_string(key_slot(key));
  servers_.call({increment(key)});
  cluster_->node(master).run({"CLUSTER", "DELSLOTS", slot});
  const RedisAnswers answers = servers_.call({increment(key)});
  EXPECT_EQ(answers.replies[0].text, "CLUSTERDOWN Hash slot not served");
  EXPECT_EQ(faults_of(answers), describe(cluster_->node(master).endpoint()) + ": CLUSTERDOWN Hash slot not served\n");
  cluster_->node(master).run({"CLUSTER", "ADDSLOTS", slot});
  EXPECT_TRUE(wait_until([&] { return servers_.call({increment(key)}).replies[0].is_integer(); }));
}

TEST_F(RedisServersInCluster, AFailoverThatIsWished) {
  const std::string key = "{wished}";
  const int master = Cluster::master_of(key), replica = master + kMasters;
  EXPECT_EQ(servers_.call({increment(key)}).replies[0].integer, 1);
  for (const int next : {replica, master}) {
    ASSERT_TRUE(cluster_->promote(next));
    ASSERT_TRUE(wait_until([&] { return servers_.call({get(key)}).replies[0].is_text(); }));
  }
  EXPECT_EQ(servers_.call({increment(key)}).replies[0].integer, 2);
}

TEST_F(RedisServersInCluster, AMasterThatDies) {
  const std::string key = "{dies}";
  const int master = Cluster::master_of(key), replica = master + kMasters;
  ASSERT_NE(Cluster::master_of("{c}"), master);
  EXPECT_EQ(servers_.call({increment(key), lease(key + "l")}).replies[0].integer, 1);
  EXPECT_EQ(cluster_->node(master).run({"WAIT", "1", "1000"}).integer, 1);
  cluster_->node(master).end(SIGKILL);
  const RedisAnswers answers = servers_.call({increment(key), increment("{c}")});
  EXPECT_EQ(answers.replies[0].text.find("LINK "), 0u);
  EXPECT_EQ(answers.replies[1].integer, 1);
  EXPECT_TRUE(answers.away);
  ASSERT_TRUE(wait_until([&] { return is_master_role(cluster_->node(replica).run({"ROLE"})); }));
  const auto promoted = std::chrono::steady_clock::now();
  ASSERT_TRUE(wait_until([&] { return servers_.call({increment(key)}).replies[0].integer == 2; }));
  EXPECT_LT(std::chrono::steady_clock::now() - promoted, std::chrono::seconds(3));
  EXPECT_EQ(servers_.call({lease(key + "l")}).replies[0].items.at(0).integer, 1);  // functions are replicated

  cluster_->node(master).start();
  ASSERT_TRUE(wait_until([&] {
    return cluster_->node(master).run({"INFO", "replication"}).text.find("master_link_status:up") != std::string::npos;
  }));
  ASSERT_TRUE(cluster_->promote(master));
  ASSERT_TRUE(wait_until([&] { return servers_.call({get(key)}).replies[0].text == "2"; }));
}

TEST_F(RedisServersInCluster, TheUrlNamesOneNodeOfManyOrNone) {
  ctl::RedisSocket link(patient());
  RedisServers from_replica({RedisTopology::kCluster, false, {cluster_->node(4).endpoint()}, ""}, link, false);
  EXPECT_EQ(from_replica.call({increment("a")}).replies[0].integer, 1);
  const RedisProcess alone;
  RedisServers wrong({RedisTopology::kCluster, false, {alone.endpoint()}, ""}, link, false);
  const RedisAnswers answers = wrong.call({get("a")});
  EXPECT_EQ(answers.replies[0].text, "LINK no master is known");
  EXPECT_NE(faults_of(answers).find("cluster support disabled"), std::string::npos);
  RedisServers single({RedisTopology::kSingle, false, {cluster_->node(0).endpoint()}, ""}, link, false);
  EXPECT_NE(faults_of(single.call({get("a")})).find("is a node of a cluster, expected redis+cluster:"),
            std::string::npos);
}

}  // namespace
}  // namespace experiment::shared
