#include "shared/fleet_store.h"

#include <filesystem>
#include <random>

#include <gtest/gtest.h>

#include "ctl/redis_socket.h"
#include "shared/file_store.h"
#include "t/unit/shared/redis_process.h"
#include "t/unit/shared/store_contract.h"

namespace experiment::shared {
namespace {

std::uint64_t random_bits() {
  static std::mt19937_64 generator(7);
  return generator();
}

// A fleet's server, and the state directory of one machine.
struct FleetBackend {
  RedisProcess redis;
  ctl::RedisSocket link{RedisAccess{}};
  std::string state = redis.folder().path() + "/state";

  std::string url() const { return "unix:" + redis.socket().socket; }
  std::unique_ptr<RedisStore> remote(const std::string& instance) {
    std::string error;
    auto servers = std::make_unique<RedisServers>(*parse_store_url(url(), error), link, true);
    return std::make_unique<RedisStore>(std::move(servers), RedisStoreOptions{"test", instance, {}}, random_bits);
  }
  std::unique_ptr<Store> open(const std::string& instance) { return open(instance, state); }
  std::unique_ptr<Store> open(const std::string& instance, const std::string& directory) {
    return std::make_unique<FleetStore>(remote(instance), url(), directory, instance);
  }
  void publish(const std::string& text) {
    const Published published = remote({})->publish({text, std::nullopt, "test", 1});
    EXPECT_TRUE(published.written) << published.error;
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Fleet, StoreContract, FleetBackend);

class FleetStoreTest : public ::testing::Test {
 protected:
  std::string directory(const std::string& machine) { return backend_.redis.folder().path() + "/" + machine; }
  std::unique_ptr<Store> edge(const std::string& instance, const std::string& machine) {
    return backend_.open(instance, directory(machine));
  }
  // What an edge does in a second: its own totals go out.
  static Answer flush(Store& store, Counters totals) {
    Exchange wants = offer_counters(std::move(totals));
    wants.learning = std::vector<std::string>{};
    return store.exchange(wants);
  }
  // What it does in between, where it only looks for what is new.
  static bool wants_counters(Store& store) {
    Exchange wants;
    wants.learning = std::vector<std::string>{};
    return store.exchange(wants).counters_wanted;
  }
  Counters fleet() {
    auto others = backend_.remote({})->exchange({}).others;
    return others ? *others : Counters();
  }
  static Exchange known(std::uint64_t document, std::uint64_t runtime) {
    Exchange wants;
    wants.known_document = document;
    wants.known_runtime = runtime;
    return wants;
  }
  static std::string all(const Answer& answer) {
    std::string text;
    for (const auto& line : answer.errors) text += line + "\n";
    return text;
  }
  FleetBackend backend_;
};

ExperimentRuntime with_epochs(std::vector<std::uint64_t> ids) {
  ExperimentRuntime state;
  state.arms = {"control", "green"};
  for (const std::uint64_t id : ids) {
    EpochRecord epoch;
    epoch.id = id;
    epoch.started_ms = static_cast<std::int64_t>(id);
    epoch.ended_ms = id == ids.back() ? 0 : static_cast<std::int64_t>(id) + 1;
    epoch.quotas = {5000, 5000};
    state.epochs.push_back(epoch);
  }
  state.runs = "0x5000,1x5000";
  state.started_ms = 1;
  return state;
}

TEST_F(FleetStoreTest, OneOfTheFleetAllocates) {
  auto a = edge(kInstanceA, "a"), b = edge(kInstanceB, "b");
  EXPECT_TRUE(a->exchange({}).allocates);
  EXPECT_FALSE(b->exchange({}).allocates);
  EXPECT_TRUE(a->exchange({}).allocates);
  a.reset();
  b->exchange({});  // the last that it sees of it
  std::this_thread::sleep_for(std::chrono::milliseconds(3200));
  EXPECT_TRUE(b->exchange({}).allocates);
}

TEST_F(FleetStoreTest, KillsThatAMachineLeavesBehindAreNamed) {
  FileStore node(directory("a"));
  Runtime killed = runtime_with_kill("x", "broken");
  killed.experiments["x"].kills.push_back({"green", "slow", "experimentctl", 1});
  killed.experiments["y"].kills.push_back({"", "mended", "experimentctl", 1});
  killed.experiments["y"].kills.back().lifted = Lift{"test", "mended", 2};
  killed.kill_all.push_back({"", "all", "test", 1});
  EXPECT_TRUE(node.exchange(offer_runtime(0, killed)).runtime_written);
  auto a = edge(kInstanceA, "a");
  const Answer first = a->exchange({});
  EXPECT_EQ(first.warnings,
            std::vector<std::string>{
                "killed on this node until now, and not in the fleet: everything, \"x\", \"x/green\"; what is to stay "
                "killed: experimentctl kill KEY[/VARIANT] (or --all) --reason TEXT --store " +
                backend_.url()});
  EXPECT_TRUE(a->exchange({}).warnings.empty());
  EXPECT_TRUE(edge(kInstanceB, "a")->exchange({}).warnings.empty());
}

TEST_F(FleetStoreTest, OthersGetADocumentWhenItsStateIsThere) {
  auto a = edge(kInstanceA, "a"), b = edge(kInstanceB, "b");
  EXPECT_TRUE(a->exchange({}).allocates);
  backend_.publish("{}");
  EXPECT_FALSE(b->exchange({}).document);
  const Answer first = a->exchange({});
  ASSERT_TRUE(first.document);
  Runtime runtime = first.runtime ? *first.runtime : Runtime();
  runtime.document = first.document->version;
  runtime.experiments["x"] = with_epochs({5});
  EXPECT_TRUE(a->exchange(offer_runtime(first.runtime->version, runtime)).runtime_written);
  const Answer second = b->exchange({});
  ASSERT_TRUE(second.document && second.runtime);
  EXPECT_TRUE(second.runtime->experiments.at("x") == runtime.experiments["x"]);
}

TEST_F(FleetStoreTest, CountersAreExactAfterTheServerForgotThem) {
  auto a = edge(kInstanceA, "a"), b = edge(kInstanceB, "b");
  const CounterKey key{"x", 1, 5};
  EXPECT_TRUE(flush(*a, {{key, {3, 1}}}).counters_written);
  EXPECT_TRUE(flush(*b, {{key, {4, 2}}}).counters_written);
  EXPECT_EQ(fleet(), (Counters{{key, {7, 3}}}));
  backend_.redis.end(SIGKILL);
  EXPECT_NE(all(flush(*a, {{key, {5, 1}}})), "");
  backend_.redis.start();  // empty
  flush(*a, {{key, {5, 1}}});
  flush(*b, {{key, {4, 2}}});
  EXPECT_EQ(fleet(), (Counters{{key, {9, 3}}}));
}

TEST_F(FleetStoreTest, CountersAreWantedByAServerThatCameBack) {
  auto a = edge(kInstanceA, "a");
  const CounterKey key{"x", 1, 5};
  flush(*a, {{key, {3, 1}}});
  EXPECT_FALSE(wants_counters(*a));
  backend_.redis.end(SIGKILL);
  EXPECT_FALSE(wants_counters(*a));
  backend_.redis.start();
  EXPECT_TRUE(wait_until([&] { return wants_counters(*a); }));
  EXPECT_FALSE(flush(*a, {{key, {3, 1}}}).counters_wanted);
  EXPECT_EQ(fleet(), (Counters{{key, {3, 1}}}));
}

TEST_F(FleetStoreTest, CountersAreWantedByAServerThatForgotThemOverTheSameConnection) {
  auto a = edge(kInstanceA, "a");
  const CounterKey key{"x", 1, 5}, later{"x", 1, 6};
  backend_.publish("{}");
  flush(*a, {{key, {3, 1}}, {later, {4, 1}}});
  EXPECT_FALSE(wants_counters(*a));
  backend_.redis.run({"FLUSHALL"});
  EXPECT_TRUE(wants_counters(*a));
  EXPECT_FALSE(flush(*a, {{key, {3, 1}}, {later, {4, 1}}}).counters_wanted);
  EXPECT_EQ(fleet(), (Counters{{key, {3, 1}}, {later, {4, 1}}}));
  backend_.redis.run({"DEL", "test:c:x:1"});
  flush(*a, {{key, {3, 1}}, {later, {5, 1}}});
  EXPECT_EQ(fleet(), (Counters{{key, {3, 1}}, {later, {5, 1}}}));
}

TEST_F(FleetStoreTest, SealedEpochsAreSentAgainToAServerThatForgotThem) {
  auto a = edge(kInstanceA, "a");
  const CounterKey key{"x", 1, 5};
  backend_.publish("{}");
  flush(*a, {{key, {3, 1}}});
  backend_.redis.run({"FCALL", "experiment_seal", "1", "test:c:x:1", "5", ""});
  flush(*a, {{key, {4, 1}}});  // too late
  EXPECT_EQ(fleet(), (Counters{{key, {3, 1}}}));
  EXPECT_FALSE(wants_counters(*a));
  backend_.redis.run({"FLUSHALL"});
  EXPECT_TRUE(wants_counters(*a));
  flush(*a, {{key, {4, 1}}});
  EXPECT_EQ(fleet(), (Counters{{key, {4, 1}}}));
}

TEST_F(FleetStoreTest, CountersAreWantedWhenAFullServerHasRoomAgain) {
  auto a = edge(kInstanceA, "a");
  const CounterKey key{"x", 1, 5}, later{"x", 1, 6};
  flush(*a, {{key, {3, 1}}});
  backend_.redis.run({"CONFIG", "SET", "maxmemory", "1"});
  EXPECT_NE(all(flush(*a, {{key, {4, 1}}, {later, {1, 1}}})), "");
  EXPECT_FALSE(wants_counters(*a));
  backend_.redis.run({"CONFIG", "SET", "maxmemory", "0"});
  EXPECT_TRUE(wants_counters(*a));
  EXPECT_FALSE(flush(*a, {{key, {4, 1}}, {later, {2, 1}}}).counters_wanted);
  EXPECT_EQ(fleet(), (Counters{{key, {4, 1}}, {later, {2, 1}}}));
  EXPECT_FALSE(wants_counters(*a));
}

TEST_F(FleetStoreTest, AKeyOfAnotherTypeKeepsNothingElseFromTheStore) {
  auto a = edge(kInstanceA, "a");
  const CounterKey x{"x", 1, 5}, later{"x", 1, 6}, y{"y", 1, 5};
  flush(*a, {{x, {3, 1}}});
  backend_.redis.run({"SET", "test:c:x:1", "text"});
  EXPECT_NE(all(flush(*a, {{x, {3, 1}}, {later, {2, 1}}, {y, {1, 1}}})).find("test:c:x:1: counters not taken"),
            std::string::npos);
  EXPECT_FALSE(wants_counters(*a));
  EXPECT_FALSE(flush(*a, {{x, {3, 1}}, {later, {2, 1}}, {y, {2, 1}}}).counters_wanted);
  backend_.redis.run({"DEL", "test:c:x:1"});
  EXPECT_TRUE(wants_counters(*a));
  flush(*a, {{x, {3, 1}}, {later, {2, 1}}, {y, {2, 1}}});
  EXPECT_EQ(fleet(), (Counters{{x, {3, 1}}, {later, {2, 1}}, {y, {2, 1}}}));
}

TEST_F(FleetStoreTest, AControlKeyOfAnotherTypeIsSaidAndGivenBackWhenItIsGone) {
  auto a = edge(kInstanceA, "a");
  backend_.publish("{\"v\":1}");
  a->exchange({});
  backend_.redis.run({"SET", "test:ctl", "text"});
  EXPECT_NE(all(a->exchange({})).find("test:ctl: WRONGTYPE"), std::string::npos);
  backend_.redis.run({"DEL", "test:ctl"});
  a->exchange({});
  EXPECT_EQ(edge(kInstanceB, "b")->exchange({}).errors, std::vector<std::string>());
  EXPECT_EQ(backend_.remote({})->exchange({}).document->text, "{\"v\":1}");
}

TEST_F(FleetStoreTest, AnInstanceThatIsGoneIsReplayedFromItsDisk) {
  const CounterKey key{"x", 1, 5};
  auto a = edge(kInstanceA, "a");
  backend_.redis.end(SIGKILL);
  EXPECT_TRUE(flush(*a, {{key, {3, 1}}}).counters_written);  // on the disk
  a.reset();
  backend_.redis.start();
  auto next = edge(kInstanceB, "a");
  flush(*next, {{key, {1, 0}}});
  flush(*next, {{key, {1, 0}}});
  EXPECT_EQ(fleet(), (Counters{{key, {4, 1}}}));
}

TEST_F(FleetStoreTest, StateAndDocumentAreGivenBackToAnEmptyServer) {
  auto a = edge(kInstanceA, "a");
  backend_.publish("{\"v\":1}");
  backend_.publish("{\"v\":2}");
  Answer answer = a->exchange({});
  ASSERT_TRUE(answer.document && answer.runtime);
  Runtime runtime = *answer.runtime;
  runtime.document = 2;
  runtime.experiments["x"] = with_epochs({5, 6});
  runtime.kill_all.push_back({"", "all", "test", 1, 77});
  EXPECT_TRUE(a->exchange(offer_runtime(answer.runtime->version, runtime)).runtime_written);
  backend_.redis.end(SIGKILL);
  a->exchange({});
  backend_.redis.start();
  answer = a->exchange({});
  ASSERT_EQ(answer.notices.size(), 2u) << all(answer);
  const Answer seen = edge(kInstanceB, "b")->exchange({});
  ASSERT_TRUE(seen.document && seen.runtime);
  EXPECT_EQ(seen.document->version, 2u);
  EXPECT_EQ(seen.document->text, "{\"v\":2}");
  EXPECT_TRUE(seen.runtime->experiments.at("x") == runtime.experiments["x"]);
  EXPECT_EQ(seen.runtime->kill_all.at(0).id, 77u);
}

TEST_F(FleetStoreTest, AnEdgeRestartsWithoutTheServer) {
  auto a = edge(kInstanceA, "a");
  backend_.publish("{\"v\":1}");
  Answer answer = a->exchange({});
  Runtime runtime = *answer.runtime;
  runtime.document = 1;
  runtime.experiments["x"] = with_epochs({5});
  EXPECT_TRUE(a->exchange(offer_runtime(answer.runtime->version, runtime)).runtime_written);
  Exchange good;
  good.known_document = 1;
  good.good_document = "{\"v\":1}";
  a->exchange(good);
  a.reset();
  backend_.redis.end(SIGKILL);
  auto again = edge(kInstanceB, "a");
  answer = again->exchange({});
  ASSERT_TRUE(answer.document && answer.runtime) << all(answer);
  EXPECT_EQ(answer.document->text, "{\"v\":1}");
  EXPECT_TRUE(answer.runtime->experiments.at("x") == runtime.experiments["x"]);
  EXPECT_FALSE(answer.allocates);
}

// It was away when the document was replaced, and begins while the allocator is still at the new one.
TEST_F(FleetStoreTest, AnEdgeThatStartsWithAnOlderDocumentGetsTheNewerOne) {
  auto a = edge(kInstanceA, "a"), b = edge(kInstanceB, "b");
  backend_.publish("{\"v\":1}");
  Answer answer = a->exchange({});
  ASSERT_TRUE(answer.document && answer.runtime) << all(answer);
  Runtime runtime = *answer.runtime;
  runtime.document = 1;
  EXPECT_TRUE(a->exchange(offer_runtime(answer.runtime->version, runtime)).runtime_written);
  Exchange good;
  good.known_document = 1;
  good.good_document = "{\"v\":1}";
  b->exchange(good);
  b.reset();
  backend_.publish("{\"v\":2}");
  b = edge(kInstanceB, "b");
  EXPECT_FALSE(b->exchange({}).document);
  EXPECT_EQ(b->last_good()->version, 1u);
  answer = a->exchange(known(1, runtime.version));
  ASSERT_TRUE(answer.document && answer.runtime) << "nobody has put the older one back";
  EXPECT_EQ(answer.document->text, "{\"v\":2}");
  runtime.document = 2;
  EXPECT_TRUE(a->exchange(offer_runtime(answer.runtime->version, runtime)).runtime_written);
  answer = b->exchange(known(1, 0));
  ASSERT_TRUE(answer.document) << all(answer);
  EXPECT_EQ(answer.document->text, "{\"v\":2}");
}

TEST_F(FleetStoreTest, AKillOfTheMachineHoldsAtOnceAndReachesTheFleetLater) {
  auto a = edge(kInstanceA, "a"), b = edge(kInstanceB, "b");
  a->exchange({});
  backend_.redis.end(SIGKILL);
  // As experimentctl does, on the machine's own directory.
  FileStore tool(directory("a"));
  Runtime killed = tool.exchange({}).runtime.value_or(Runtime());
  killed.experiments["x"].kills.push_back({"", "broken", "experimentctl", 1, 99});
  EXPECT_TRUE(tool.exchange(offer_runtime(killed.version, killed)).runtime_written);
  const Answer away = a->exchange({});
  ASSERT_TRUE(away.runtime) << all(away);
  EXPECT_EQ(away.runtime->experiments.at("x").kills.at(0).id, 99u);
  backend_.redis.start();
  a->exchange({});
  const Answer seen = b->exchange({});
  ASSERT_TRUE(seen.runtime) << all(seen);
  EXPECT_EQ(seen.runtime->experiments.at("x").kills.at(0).reason, "broken");
}

}  // namespace
}  // namespace experiment::shared
