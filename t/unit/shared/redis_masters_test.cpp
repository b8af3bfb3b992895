// Who is master, in clusters and at sentinels that say what the test wants: RedisMasters as RedisServers uses it.
#include "shared/redis_masters.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "shared/redis_topology.h"
#include "t/unit/shared/redis_servers_fixture.h"

namespace experiment::shared {
namespace {

// --- cluster
// -----------------------------------------------------------------------------------------------------------

class RedisServersCluster : public RedisServersTest {
 protected:
  // Keys: {a} is in 15495, {b} in 3300, {c} in 7365.
  RedisServersCluster() {
    EXPECT_EQ(key_slot("a"), 15495);
    EXPECT_EQ(key_slot("b"), 3300);
    EXPECT_EQ(key_slot("c"), 7365);
    for (const char* name : {"n1:1", "n2:2", "n3:3"}) {
      link_.servers[name] = [this, name](const Words& words) {
        if (words[0] == "CLUSTER") return map_;
        const auto said = says_.find(std::string(name) + " " + words.back());
        return said == says_.end() ? echo(words) : said->second;
      };
    }
    use("redis+cluster://n1:1,n2:2");
  }
  // What a node says to a command whose last word is that key.
  void says(const std::string& node_and_key, const std::string& error) { says_[node_and_key] = error_reply(error); }

  RedisReply map_ = slots({{0, 5460, "n1", 1}, {5461, 10922, "n2", 2}, {10923, 16383, "n3", 3}});
  std::map<std::string, RedisReply> says_;
};

TEST_F(RedisServersCluster, EachCallToTheMasterOfItsKey) {
  EXPECT_EQ(call({get("a"), get("b"), get("c"), get("x{a}")}), "GET a\nGET b\nGET c\nGET x{a}\n");
  EXPECT_EQ(link_.take_trips(), "n1:1 < CLUSTER:SLOTS\nn1:1 < GET:b\nn2:2 < GET:c\nn3:3 < GET:a GET:x{a}\n");
  EXPECT_EQ(link_.kept, "n1:1 n2:2 n3:3");
  EXPECT_EQ(call({get("a")}), "GET a\n");
  EXPECT_EQ(link_.take_trips(), "n3:3 < GET:a\n");
  pass(10'000);  // from time to time without a reason, and of another each time
  EXPECT_EQ(call({get("a")}), "GET a\n");
  EXPECT_EQ(link_.take_trips().find("n1:1 < CLUSTER:SLOTS\n"), 0u);
  pass(10'000);
  call({get("a")});
  EXPECT_EQ(link_.take_trips().find("n2:2 < CLUSTER:SLOTS\n"), 0u);
}

TEST_F(RedisServersCluster, FollowsMovedAndRemembersIt) {
  call({get("a")});
  link_.take_trips();
  says("n3:3 a", "MOVED 15495 n1:1");
  EXPECT_EQ(call({get("a"), get("b")}), "GET a\nGET b\n");
  EXPECT_EQ(link_.take_trips(), "n1:1 < GET:b\nn3:3 < GET:a\nn1:1 < GET:a\n");
  EXPECT_EQ(call({get("a"), get("b")}), "GET a\nGET b\n");
  EXPECT_EQ(link_.take_trips(), "n1:1 < GET:a GET:b\n");
  map_ = slots({{0, 16383, "n1", 1}});
  pass(1000);
  EXPECT_EQ(call({get("c")}), "GET c\n");
  EXPECT_EQ(link_.take_trips(), "n1:1 < CLUSTER:SLOTS\nn1:1 < GET:c\n");
}

TEST_F(RedisServersCluster, FollowsAskWithAskingAndForgetsIt) {
  call({get("a")});
  link_.take_trips();
  says("n3:3 a", "ASK 15495 n2:2");
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(call({get("a"), get("x{a}")}), "GET a\nGET x{a}\n");
    EXPECT_EQ(link_.take_trips(), "n3:3 < GET:a GET:x{a}\nn2:2 < ASKING GET:a\n");
  }
}

TEST_F(RedisServersCluster, LoadsTheLibraryWhereAskLeads) {
  Library library;
  link_.servers["n2:2"] = std::ref(library);
  call({get("a")});
  link_.take_trips();
  says("n3:3 2", "ASK 15495 n2:2");
  EXPECT_EQ(call({merge("a")}), "FCALL experiment_merge 1 a edge 1 2\n");
  EXPECT_EQ(link_.take_trips(),
            "n3:3 < FCALL:experiment_merge\nn2:2 < ASKING FCALL:experiment_merge\n"
            "n2:2 < FUNCTION:LOAD ASKING FCALL:experiment_merge\n");
}

TEST_F(RedisServersCluster, RedirectsEnd) {
  call({get("a")});
  link_.take_trips();
  says("n3:3 a", "MOVED 15495 n1:1");
  says("n1:1 a", "MOVED 15495 n3:3");
  EXPECT_EQ(call({get("a"), get("c")}),
            "MOVED 15495 n3:3\nGET c\nfault: n1:1: redirects do not end: MOVED 15495 n3:3\n");
  EXPECT_EQ(link_.trips.size(), 7u);  // the first, five redirects, and that of "c"
}

TEST_F(RedisServersCluster, WhatPassesIsAReplyAndNoReasonToWait) {
  call({get("a")});
  for (const char* line :
       {"TRYAGAIN x", "CLUSTERDOWN Hash slot not served", "LOADING x", "BUSY x", "NOREPLICAS x", "MASTERDOWN x"}) {
    says("n3:3 a", line);
    pass(1000);
    call({get("b")});
    link_.take_trips();
    EXPECT_EQ(call({get("a")}).find(std::string(line) + "\n"), 0u);
    EXPECT_EQ(link_.take_trips(), "n3:3 < GET:a\n");
  }
}

TEST_F(RedisServersCluster, AMasterThatIsLostIsLookedForOnceASecond) {
  call({get("a")});
  link_.servers.erase("n3:3");
  pass(1000);
  link_.take_trips();
  EXPECT_EQ(call({get("a"), get("b")}), "LINK n3:3: away\nGET b\nfault: n3:3: away\naway\n");
  EXPECT_EQ(link_.take_trips(), "n1:1 < GET:b\nn3:3 < GET:a\nn1:1 < CLUSTER:SLOTS\n");
  map_ = slots({{0, 5460, "n1", 1}, {5461, 16383, "n2", 2}});
  EXPECT_EQ(call({get("a")}), "LINK n3:3: away\nfault: n3:3: away\naway\n");
  EXPECT_EQ(link_.take_trips(), "n3:3 < GET:a\n");
  pass(1000);
  EXPECT_EQ(call({get("a")}), "GET a\n");
  EXPECT_EQ(link_.kept, "n1:1 n2:2");
}

TEST_F(RedisServersCluster, ACallThatWasNotSentGoesToTheNewMaster) {
  call({get("a")});
  link_.servers.erase("n3:3");
  map_ = slots({{0, 5460, "n1", 1}, {5461, 16383, "n2", 2}});
  pass(1000);
  EXPECT_EQ(call({get("a")}), "GET a\nfault: n3:3: away\n");
}

TEST_F(RedisServersCluster, ACallWithoutReplyIsNotSentAgain) {
  call({get("a")});
  link_.servers["n3:3"] = [](const Words&) -> RedisReply { throw ScriptedLink::Silence(); };
  map_ = slots({{0, 16383, "n1", 1}});
  pass(1000);
  link_.take_trips();
  EXPECT_EQ(call({get("a")}), "LINK n3:3: silent\nfault: n3:3: silent\n");
  EXPECT_EQ(link_.take_trips(), "n3:3 < GET:a\n");
}

TEST_F(RedisServersCluster, NodesThatAreGoneAreAskedLast) {
  link_.servers.erase("n1:1");
  EXPECT_EQ(call({get("c")}), "GET c\nfault: n1:1: away\n");
  EXPECT_EQ(link_.take_trips(), "n1:1 < CLUSTER:SLOTS\nn2:2 < CLUSTER:SLOTS\nn2:2 < GET:c\n");
  says("n3:3 a", "MOVED 15495 n9:9");
  call({get("a")});  // n9 is away
  link_.take_trips();
  pass(1000);
  call({get("c")});
  EXPECT_EQ(link_.take_trips().find("n2:2 < CLUSTER:SLOTS\n"), 0u);
}

TEST_F(RedisServersCluster, NobodyKnows) {
  link_.servers.clear();
  EXPECT_EQ(call({get("a")}), "LINK no master is known\nfault: n1:1: away\nfault: n2:2: away\naway\n");
  EXPECT_EQ(call({get("a")}), "LINK no master is known\naway\n");
  EXPECT_EQ(link_.trips.size(), 2u);
  link_.servers["n1:1"] = [](const Words&) { return error_reply("ERR This instance has cluster support disabled"); };
  link_.servers["n2:2"] = [](const Words&) { return array_reply({}); };
  pass(1000);
  EXPECT_EQ(
      call({get("a")}),
      "LINK no master is known\nfault: n1:1: CLUSTER was answered by: ERR This instance has cluster support disabled\n"
      "fault: n2:2: CLUSTER SLOTS: no node serves any slot\naway\n");
}

TEST_F(RedisServersCluster, ListensWhereTheKeyIs) {
  servers_->listen("push", "a");
  EXPECT_EQ(link_.listened, (std::vector<std::string>{"push n3:3"}));
  call({get("a")});
  EXPECT_EQ(link_.listened.size(), 1u);
  says("n3:3 a", "MOVED 15495 n1:1");
  call({get("a")});
  EXPECT_EQ(link_.listened, (std::vector<std::string>{"push n3:3", "push n1:1"}));
}

// --- sentinels
// ---------------------------------------------------------------------------------------------------------

class RedisServersSentinel : public RedisServersTest {
 protected:
  RedisServersSentinel() {
    for (const char* name : {"s1:1", "s2:2", "s3:3"}) sentinel(name, "m", "1");
    server("m:1", "master");
    server("n:2", "slave");
    use("redis+sentinel://s1:1,s2:2,s3:3/main");
  }
  void sentinel(const std::string& name, const std::string& host, const std::string& port) {
    link_.servers[name] = [host, port](const Words& words) {
      EXPECT_EQ(words, (Words{"SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"}));
      return host.empty() ? RedisReply{} : array_reply({text_reply(host), text_reply(port)});
    };
  }
  void server(const std::string& name, const std::string& role) {
    link_.servers[name] = [role](const Words& words) {
      if (words[0] == "ROLE") return array_reply({text_reply(role)});
      return role == "master" ? echo(words) : error_reply("READONLY You can't write against a read only replica.");
    };
  }
  void fail_over() {
    for (const char* name : {"s1:1", "s2:2", "s3:3"}) sentinel(name, "n", "2");
    server("m:1", "slave");
    server("n:2", "master");
  }
  static constexpr const char* kAsked =
      "s1:1 < SENTINEL:GET-MASTER-ADDR-BY-NAME\ns2:2 < SENTINEL:GET-MASTER-ADDR-BY-NAME\n";
};

TEST_F(RedisServersSentinel, TakesWhatMostName) {
  EXPECT_EQ(call({get("a"), get("b")}), "GET a\nGET b\n");
  EXPECT_EQ(link_.take_trips(), std::string(kAsked) + "m:1 < ROLE\nm:1 < GET:a GET:b\n");
  EXPECT_EQ(link_.kept, "m:1 s1:1 s2:2 s3:3");
  pass(1999);
  call({get("a")});
  EXPECT_EQ(link_.take_trips(), "m:1 < GET:a\n");
  pass(1);  // a failover that the old master does not know of is noticed
  call({get("a")});
  EXPECT_EQ(link_.take_trips(), std::string(kAsked) + "m:1 < GET:a\n");
  sentinel("s1:1", "n", "2");  // one alone, and the first
  server("n:2", "master");
  pass(2000);
  EXPECT_EQ(call({get("a")}), "GET a\n");
  EXPECT_EQ(link_.take_trips(), std::string(kAsked) + "s3:3 < SENTINEL:GET-MASTER-ADDR-BY-NAME\nm:1 < GET:a\n");
}

TEST_F(RedisServersSentinel, AsksAgainAtOnceAfterReadonly) {
  call({get("a")});
  link_.take_trips();
  fail_over();
  EXPECT_EQ(call({get("a"), get("b")}), "GET a\nGET b\n");
  EXPECT_EQ(link_.take_trips(), "m:1 < GET:a GET:b\n" + std::string(kAsked) + "n:2 < ROLE\nn:2 < GET:a GET:b\n");
}

TEST_F(RedisServersSentinel, AsksAgainAtOnceAfterTheMasterWasLostThenOnceASecond) {
  call({get("a")});
  link_.servers.erase("m:1");
  link_.take_trips();
  EXPECT_EQ(call({get("a")}), "LINK m:1: away\nfault: m:1: away\naway\n");
  EXPECT_EQ(link_.take_trips(), "m:1 < GET:a\n" + std::string(kAsked) + "m:1 < ROLE\n");
  EXPECT_EQ(call({get("a")}), "LINK m:1: away\nfault: m:1: away\naway\n");
  EXPECT_EQ(link_.take_trips(), "m:1 < GET:a\n");
  fail_over();
  pass(1000);
  EXPECT_EQ(call({get("a")}), "GET a\n");
}

TEST_F(RedisServersSentinel, AMasterThatWasAwayForAMomentIsUsedAtOnce) {
  call({get("a")});
  link_.servers.erase("m:1");
  call({get("a")});
  server("m:1", "master");
  EXPECT_EQ(call({get("a")}), "GET a\n");
  server("m:1", "slave");
  EXPECT_EQ(call({merge("a")}).find("LINK no master is known\n"), 0u);  // asked for READONLY, it says that it is none
}

TEST_F(RedisServersSentinel, AMasterThatIsNoneYetIsNotUsed) {
  fail_over();
  server("n:2", "slave");
  EXPECT_EQ(call({get("a")}),
            "LINK no master is known\nfault: n:2: is named as the master by the sentinels, and is none yet\naway\n");
  server("n:2", "master");
  pass(1000);
  EXPECT_EQ(call({get("a")}), "GET a\n");
}

TEST_F(RedisServersSentinel, WhoMayNotAskForTheRoleTrustsTheSentinels) {
  link_.servers["m:1"] = [](const Words& words) { return words[0] == "ROLE" ? error_reply("NOPERM x") : echo(words); };
  EXPECT_EQ(call({get("a")}), "GET a\n");
}

TEST_F(RedisServersSentinel, TwoMustAgreeWhereTwoAnswer) {
  link_.servers.erase("s3:3");
  sentinel("s2:2", "n", "2");
  EXPECT_EQ(call({get("a")}),
            "LINK no master is known\nfault: s3:3: away\nfault: the sentinels of \"main\" do not agree on a master: 2 "
            "answered, 1 "
            "of them m:1\naway\n");
  sentinel("s2:2", "", "");
  pass(1000);
  EXPECT_NE(call({get("a")}).find("fault: s2:2: knows no master by the name of \"main\"\n"), std::string::npos);
  sentinel("s2:2", "m", "1");
  pass(1000);
  EXPECT_EQ(call({get("a")}), "GET a\n");
}

TEST_F(RedisServersSentinel, OneIsBelievedWhereItAloneAnswers) {
  link_.servers.erase("s1:1");
  link_.servers.erase("s3:3");
  EXPECT_EQ(call({get("a")}), "GET a\nfault: s1:1: away\nfault: s3:3: away\n");
  pass(2000);
  link_.take_trips();
  EXPECT_EQ(call({get("a")}), "GET a\nfault: s1:1: away\nfault: s3:3: away\n");
  EXPECT_EQ(link_.take_trips().find("s2:2 <"), 0u);  // those that were silent come last
}

TEST_F(RedisServersSentinel, SentinelsWithoutAnAnswerLeaveWhatIsKnown) {
  call({get("a")});
  for (const char* name : {"s1:1", "s2:2", "s3:3"}) link_.servers.erase(name);
  pass(2000);
  EXPECT_EQ(call({get("a")}), "GET a\nfault: s1:1: away\nfault: s2:2: away\nfault: s3:3: away\n");
}

TEST_F(RedisServersSentinel, ListensAtTheMaster) {
  servers_->listen("push", "a");
  call({get("a")});
  fail_over();
  call({get("a")});
  call({get("a")});
  EXPECT_EQ(link_.listened, (std::vector<std::string>{"push m:1", "push n:2"}));
  EXPECT_EQ(servers_->masters(), (std::vector<RedisEndpoint>{{"n", 2, ""}}));
}

}  // namespace
}  // namespace experiment::shared
