// RedisServers with one real server, in every state that a server can be in.
#include <gtest/gtest.h>

#include <string>

#include "ctl/redis_socket.h"
#include "shared/redis_library.h"
#include "shared/redis_servers.h"
#include "shared/redis_topology.h"
#include "t/unit/shared/redis_process.h"

namespace experiment::shared {
namespace {

const RedisCall kLease{"x:ctl", "experiment_lease", {"edge-1", "10000"}, false};
const RedisCall kMerge{"x:c:x:1", "experiment_merge", {"edge-1", "5", "1"}, false};
const RedisCall kVersion{"x:ctl", "experiment_version", {}, true};
const RedisCall kIncrement{"x:n", "", {"INCR", "x:n"}, false};
const RedisCall kGet{"x:n", "", {"GET", "x:n"}, true};

std::string faults_of(const RedisAnswers& answers) {
  std::string all;
  for (const std::string& fault : answers.faults) all += fault + "\n";
  return all;
}

class RedisServersLive : public testing::Test {
 protected:
  RedisServers servers(bool may_load = true) {
    return {{RedisTopology::kSingle, false, {server_.endpoint()}, ""}, link_, may_load};
  }
  // The reply to a call that ends in a fault of the server; the fault is told.
  std::string refusal(RedisServers& servers, const RedisCall& call) {
    const RedisAnswers answers = servers.call({call});
    EXPECT_EQ(faults_of(answers), describe(server_.endpoint()) + ": " + printable(answers.replies[0].text) + "\n");
    EXPECT_FALSE(answers.away);
    return answers.replies[0].text.substr(0, answers.replies[0].text.find(' '));
  }
  RedisProcess server_;
  ctl::RedisSocket link_{patient()};
};

TEST_F(RedisServersLive, LoadsTheLibraryWheneverItIsGone) {
  RedisServers servers = this->servers();
  for (const std::vector<std::string_view>& loss : std::vector<std::vector<std::string_view>>{
           {"FUNCTION", "FLUSH"}, {"PING"}, {"FUNCTION", "DELETE", kLibraryName}}) {
    const RedisAnswers answers = servers.call({kLease, kVersion, kIncrement});
    EXPECT_EQ(faults_of(answers), "");
    EXPECT_EQ(answers.replies[0].items.at(0).integer, 1) << answers.replies[0].text;
    EXPECT_EQ(answers.replies[1].integer, kLibraryVersion);
    EXPECT_FALSE(server_.run(loss).is_error());
  }
  EXPECT_EQ(servers.call({kGet}).replies[0].text, "3");  // each once
  EXPECT_EQ(servers.call({kVersion}).replies[0].integer, kLibraryVersion);
  EXPECT_EQ(servers.load_library(), std::vector<std::string>{});  // over itself
}

TEST_F(RedisServersLive, DoesNotLoadWhatItMayNot) {
  RedisServers servers = this->servers(false);
  const RedisAnswers answers = servers.call({kVersion});
  EXPECT_EQ(answers.replies[0].text, "ERR Function not found");
  EXPECT_NE(faults_of(answers).find("the library is missing, and is not loaded from here"), std::string::npos);
  EXPECT_EQ(servers.load_library(), std::vector<std::string>{});  // when told to
  EXPECT_EQ(servers.call({kVersion}).replies[0].integer, kLibraryVersion);
}

TEST_F(RedisServersLive, UsesTheScriptWhereThereAreNoFunctions) {
  server_.add_options(
      {"--rename-command", "FCALL", "", "--rename-command", "FCALL_RO", "", "--rename-command", "FUNCTION", ""});
  server_.end(SIGTERM);
  server_.start();
  RedisServers servers = this->servers();
  for (int i = 0; i < 3; ++i) {
    const RedisAnswers answers = servers.call({kLease, kVersion, kIncrement});
    EXPECT_EQ(faults_of(answers), "");
    EXPECT_EQ(answers.replies[0].items.at(0).integer, 1) << answers.replies[0].text;
    EXPECT_EQ(answers.replies[1].integer, kLibraryVersion) << answers.replies[1].text;
    EXPECT_EQ(server_.run({"SCRIPT", "FLUSH"}).text, "OK");
  }
  EXPECT_EQ(servers.call({kGet}).replies[0].text, "3");
  EXPECT_EQ(servers.load_library(), std::vector<std::string>{});
  EXPECT_EQ(server_.run({"SCRIPT", "EXISTS", script_sha()}).items.at(0).integer, 1);
}

TEST_F(RedisServersLive, AScriptRefusesInTheWordsOfTheLibrary) {
  RedisServers by_function = this->servers();
  const RedisCall wrong_type{"x:n", "experiment_lease", {"edge-1", "10000"}, false};
  const RedisCall wrong_argument{"x:ctl", "experiment_lease", {"edge-1", "0"}, false};
  by_function.call({kIncrement});
  const RedisAnswers told = by_function.call({wrong_type, wrong_argument});
  for (const auto& [call, reply] : {std::pair(wrong_type, told.replies[0]), {wrong_argument, told.replies[1]}}) {
    RedisCall as_script{call.key, "", {"EVAL", script_source(), "1", call.key, call.function}, false};
    as_script.words.insert(as_script.words.end(), call.words.begin(), call.words.end());
    EXPECT_EQ(by_function.call({as_script}).replies[0].text, reply.text);
  }
  EXPECT_EQ(fault_of(told.replies[0]), RedisFault::kWrongType) << told.replies[0].text;
  EXPECT_EQ(fault_of(told.replies[1]), RedisFault::kExperiment) << told.replies[1].text;
}

TEST_F(RedisServersLive, AReplicaReadsAndRefusesToWrite) {
  const RedisProcess master;
  RedisServers servers = this->servers();
  servers.load_library();
  servers.call({kIncrement});
  RedisServers of_master({RedisTopology::kSingle, false, {master.endpoint()}, ""}, link_, true);
  of_master.call({kVersion, kIncrement, kIncrement});
  server_.run({"REPLICAOF", "127.0.0.1", std::to_string(master.endpoint().port)});
  ASSERT_TRUE(wait_until([&] { return server_.run({"GET", "x:n"}).text == "2"; }));
  EXPECT_EQ(refusal(servers, kLease), "READONLY");
  EXPECT_EQ(refusal(servers, kIncrement), "READONLY");
  EXPECT_EQ(servers.call({kVersion}).replies[0].integer, kLibraryVersion);  // it came with the data
}

TEST_F(RedisServersLive, LoadingIsAReply) {
  RedisServers servers = this->servers();
  for (int i = 0; i < 2000; ++i) server_.run({"SET", "key" + std::to_string(i), std::string(100, 'v')});
  servers.load_library();
  server_.run({"SAVE"});
  server_.add_options({"--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024"});
  server_.end(SIGKILL);
  server_.start();
  EXPECT_EQ(refusal(servers, kVersion), "LOADING");
  EXPECT_EQ(refusal(servers, kIncrement), "LOADING");
  EXPECT_TRUE(wait_until([&] { return servers.call({kVersion}).replies[0].integer == kLibraryVersion; }));
}

TEST_F(RedisServersLive, BusyIsAReply) {
  RedisServers servers = this->servers();
  servers.load_library();
  server_.run({"CONFIG", "SET", "busy-reply-threshold", "50"});
  RedisAccess access;
  access.command_ms = 1;
  ctl::RedisSocket other(access);
  command(other, server_.endpoint(), {"EVAL", "while true do end", "0"});
  EXPECT_TRUE(wait_until([&] { return servers.call({kVersion}).replies[0].text.find("BUSY ") == 0; }));
  EXPECT_EQ(refusal(servers, kVersion), "BUSY");
  EXPECT_EQ(server_.run({"SCRIPT", "KILL"}).text, "OK");
  EXPECT_TRUE(wait_until([&] { return servers.call({kVersion}).replies[0].integer == kLibraryVersion; }));
}

TEST_F(RedisServersLive, WhereWritingIsRefusedReadingGoesOn) {
  RedisServers servers = this->servers();
  servers.call({kLease, kIncrement});
  const auto check = [&](const std::string& word) {
    EXPECT_EQ(refusal(servers, kMerge), word);
    EXPECT_EQ(refusal(servers, kIncrement), word);
    EXPECT_EQ(servers.call({kGet}).replies[0].text, "1");
    EXPECT_EQ(servers.call({kVersion}).replies[0].integer, kLibraryVersion);
  };
  server_.run({"CONFIG", "SET", "maxmemory", "1"});
  check("OOM");
  EXPECT_TRUE(servers.call({kLease}).replies[0].is_array()) << "what is to be decided has room";
  server_.run({"CONFIG", "SET", "maxmemory", "0", "min-replicas-to-write", "1"});
  check("NOREPLICAS");
  EXPECT_EQ(refusal(servers, kLease), "NOREPLICAS");
  server_.run({"CONFIG", "SET", "min-replicas-to-write", "0", "save", "3600 1"});
  std::filesystem::create_directory(server_.folder().path() + "/dump.rdb");
  server_.run({"BGSAVE"});
  ASSERT_TRUE(wait_until([&] {
    return server_.run({"INFO", "persistence"}).text.find("rdb_last_bgsave_status:err") != std::string::npos;
  }));
  check("MISCONF");
  EXPECT_EQ(refusal(servers, kLease), "MISCONF");
}

TEST_F(RedisServersLive, WhatAUserMayNot) {
  RedisServers admin = this->servers();
  admin.load_library();
  server_.run({"ACL", "SETUSER", "edge", "on", ">geheim", "~x:*", "+@all", "-fcall_ro", "-incr", "-function"});
  RedisAccess access;
  access.user = "edge";
  access.password_file = server_.folder().write("password", "geheim");
  ctl::RedisSocket link(patient(access));
  RedisServers servers({RedisTopology::kSingle, false, {server_.endpoint()}, ""}, link, true);
  EXPECT_TRUE(servers.call({kLease}).replies[0].is_array());
  EXPECT_EQ(refusal(servers, kVersion), "NOPERM");
  EXPECT_EQ(refusal(servers, kIncrement), "NOPERM");
  server_.run({"FUNCTION", "FLUSH"});
  const RedisAnswers answers = servers.call({kLease});
  EXPECT_EQ(answers.replies[0].text, "ERR Function not found");
  EXPECT_NE(faults_of(answers).find("the library is missing, and cannot be loaded: NOPERM"), std::string::npos)
      << faults_of(answers);
  server_.run({"CONFIG", "SET", "requirepass", "other"});
  ctl::RedisSocket nobody(patient());
  RedisServers stranger({RedisTopology::kSingle, false, {server_.endpoint()}, ""}, nobody, true);
  EXPECT_EQ(refusal(stranger, kGet), "NOAUTH");
}

TEST_F(RedisServersLive, AWrongTypeConcernsItsCallAlone) {
  RedisServers servers = this->servers();
  server_.run({"SET", "x:ctl", "text"});
  const RedisAnswers answers = servers.call({kLease, kIncrement});
  EXPECT_EQ(fault_of(answers.replies[0]), RedisFault::kWrongType) << answers.replies[0].text;
  EXPECT_EQ(answers.replies[1].integer, 1);
  EXPECT_EQ(faults_of(answers), "");
}

TEST_F(RedisServersLive, AHangingServerIsLeftAndFoundAgain) {
  RedisAccess access;
  access.command_ms = 500;
  ctl::RedisSocket link(access);
  RedisServers servers({RedisTopology::kSingle, false, {server_.endpoint()}, ""}, link, true);
  servers.call({kIncrement});
  server_.signal(SIGSTOP);
  const RedisAnswers answers = servers.call({kIncrement, kIncrement});
  EXPECT_EQ(answers.replies[0].text, "LINK " + describe(server_.endpoint()) + ": no answer in time");
  EXPECT_EQ(answers.replies[1].text, answers.replies[0].text);
  EXPECT_EQ(answers.faults.size(), 1u);
  EXPECT_FALSE(answers.away);  // it may be done yet
  server_.signal(SIGCONT);
  EXPECT_TRUE(wait_until([&] { return servers.call({kGet}).replies[0].text == "3"; }));
  server_.end(SIGKILL);
  EXPECT_TRUE(servers.call({kGet}).away);
  server_.start();
  EXPECT_EQ(servers.call({kIncrement}).replies[0].integer, 1);
}

}  // namespace
}  // namespace experiment::shared
