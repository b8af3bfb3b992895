// RedisServers against one server that says what the test wants; redis_servers_{live,cluster,sentinel}_test.cpp have
// real ones.
#include "shared/redis_servers.h"

#include <gtest/gtest.h>

#include <string>

#include "t/unit/shared/redis_servers_fixture.h"

namespace experiment::shared {
namespace {

// --- one server
// --------------------------------------------------------------------------------------------------------

TEST_F(RedisServersTest, AllCallsInOneTrip) {
  use("redis://h:1");
  link_.servers["h:1"] = echo;
  EXPECT_EQ(call({get("a"), merge("b"), totals("c")}),
            "GET a\nFCALL experiment_merge 1 b edge 1 2\nFCALL_RO experiment_totals 1 c 0\n");
  EXPECT_EQ(link_.take_trips(), "h:1 < GET:a FCALL:experiment_merge FCALL_RO:experiment_totals\n");
  EXPECT_EQ(call({}), "");
  EXPECT_EQ(link_.take_trips(), "");
}

TEST_F(RedisServersTest, NoServer) {
  use("redis://h:1");
  EXPECT_EQ(call({get("a"), get("b")}), "LINK h:1: away\nLINK h:1: away\nfault: h:1: away\naway\n");
  EXPECT_EQ(link_.take_trips(), "h:1 < GET:a GET:b\n");
}

TEST_F(RedisServersTest, WhatGotItsReplyBeforeTheServerFellSilentHasIt) {
  use("redis://h:1");
  link_.servers["h:1"] = [](const Words& words) {
    return words[1] == "b" ? throw ScriptedLink::Silence() : echo(words);
  };
  EXPECT_EQ(call({get("a"), get("b"), get("c")}), "GET a\nLINK h:1: silent\nLINK h:1: silent\nfault: h:1: silent\n");
  EXPECT_EQ(link_.take_trips(), "h:1 < GET:a GET:b GET:c\n");
}

TEST_F(RedisServersTest, FaultsOfCallsAreRepliesThoseOfServersFaultsToo) {
  use("redis://h:1");
  for (const char* line : {"WRONGTYPE x", "EXPERIMENT FENCED x", "ERR x"}) {
    link_.servers["h:1"] = [line](const Words&) { return error_reply(line); };
    EXPECT_EQ(call({get("a")}), std::string(line) + "\n");
  }
  for (const char* line : {"LOADING x", "READONLY x", "NOREPLICAS x", "OOM x", "MISCONF x", "NOAUTH x", "NOPERM x",
                           "BUSY x", "MASTERDOWN x"}) {
    link_.servers["h:1"] = [line](const Words&) { return error_reply(line); };
    EXPECT_EQ(call({get("a"), get("b")}), std::string(line) + "\n" + line + "\nfault: h:1: " + line + "\n");
  }
  link_.take_trips();
  link_.servers["h:1"] = [](const Words&) { return error_reply("MOVED 1 other:2"); };
  EXPECT_EQ(call({get("a")}),
            "MOVED 1 other:2\nfault: h:1: is a node of a cluster, expected redis+cluster: MOVED 1 other:2\n");
  EXPECT_EQ(link_.take_trips(), "h:1 < GET:a\n");
}

// --- the library
// -------------------------------------------------------------------------------------------------------

TEST_F(RedisServersTest, LoadsTheLibraryOnceAndAsksAgain) {
  Library library;
  use("redis://h:1");
  link_.servers["h:1"] = std::ref(library);
  EXPECT_EQ(call({merge("a"), get("b"), totals("c")}),
            "FCALL experiment_merge 1 a edge 1 2\nGET b\nFCALL_RO experiment_totals 1 c 0\n");
  EXPECT_EQ(link_.take_trips(),
            "h:1 < FCALL:experiment_merge GET:b FCALL_RO:experiment_totals\n"
            "h:1 < FUNCTION:LOAD FCALL:experiment_merge FCALL_RO:experiment_totals\n");
}

TEST_F(RedisServersTest, DoesNotLoadWhatItMayNot) {
  Library library;
  use("redis://h:1", false);
  link_.servers["h:1"] = std::ref(library);
  EXPECT_EQ(call({merge("a")}),
            "ERR Function not found\nfault: h:1: the library is missing, and is not loaded from here: ERR Function not "
            "found\n");
  EXPECT_EQ(link_.take_trips(), "h:1 < FCALL:experiment_merge\n");
}

TEST_F(RedisServersTest, TriesToLoadOnceInACall) {
  Library library;
  library.refuses = "NOPERM this user has no permissions to run the 'function|load' command";
  use("redis://h:1");
  link_.servers["h:1"] = std::ref(library);
  EXPECT_EQ(
      call({merge("a"), merge("b")}),
      "ERR Function not found\nERR Function not found\nfault: h:1: the library is missing, and cannot be loaded: " +
          library.refuses + "\n");
  EXPECT_EQ(link_.trips.size(), 2u);
}

TEST_F(RedisServersTest, ARefusedLibraryIsNotSentAgainForAMinute) {
  Library library;
  library.refuses = "NOPERM this user has no permissions to run the 'function|load' command";
  use("redis://h:1");
  link_.servers["h:1"] = std::ref(library);
  const std::string refused = call({merge("a")});
  link_.take_trips();
  pass(59'000);
  EXPECT_EQ(call({merge("a")}), refused);
  EXPECT_EQ(link_.take_trips(), "h:1 < FCALL:experiment_merge\n");
  pass(1'000);
  EXPECT_EQ(call({merge("a")}), refused);
  EXPECT_EQ(link_.trips.size(), 2u);
  library.refuses.clear();
  pass(60'000);
  EXPECT_EQ(call({merge("a")}), "FCALL experiment_merge 1 a edge 1 2\n");
}

TEST_F(RedisServersTest, ALibraryThatIsRefusedForTheMomentIsSentAgainSoon) {
  Library library;
  library.refuses = "OOM command not allowed when used memory > 'maxmemory'.";
  use("redis://h:1");
  link_.servers["h:1"] = std::ref(library);
  const std::string refused = call({merge("a")});
  EXPECT_EQ(call({merge("a")}), refused);
  EXPECT_EQ(link_.trips.size(), 3u);
  library.refuses.clear();
  pass(1'000);
  EXPECT_EQ(call({merge("a")}), "FCALL experiment_merge 1 a edge 1 2\n");
}

TEST_F(RedisServersTest, UsesTheScriptWhereThereAreNoFunctions) {
  Library library;
  library.functions = false;
  use("redis://h:1", false);  // SCRIPT LOAD keeps nothing that others would meet
  link_.servers["h:1"] = std::ref(library);
  const std::string merged = "EVALSHA " + script_sha() + " 1 a experiment_merge edge 1 2\n";
  const std::string read = "EVALSHA " + script_sha() + " 1 b experiment_totals 0\n";
  EXPECT_EQ(call({merge("a"), totals("b")}), merged + read);
  const std::string sha = script_sha().substr(0, 30);
  EXPECT_EQ(link_.take_trips(), "h:1 < FCALL:experiment_merge FCALL_RO:experiment_totals\nh:1 < EVALSHA:" + sha +
                                    " EVALSHA:" + sha + "\nh:1 < SCRIPT:LOAD EVALSHA:" + sha + " EVALSHA:" + sha +
                                    "\n");
  EXPECT_EQ(call({merge("a")}), merged);
  EXPECT_EQ(link_.take_trips(), "h:1 < EVALSHA:" + sha + "\n");
  library.script = false;  // SCRIPT FLUSH
  EXPECT_EQ(call({merge("a")}), merged);
  EXPECT_EQ(link_.take_trips(), "h:1 < EVALSHA:" + sha + "\nh:1 < SCRIPT:LOAD EVALSHA:" + sha + "\n");
  link_.servers.erase("h:1");
  EXPECT_NE(call({merge("a")}), merged);
  library.functions = library.loaded = true;  // it comes back as a newer version
  link_.servers["h:1"] = std::ref(library);
  EXPECT_EQ(call({merge("a")}), "FCALL experiment_merge 1 a edge 1 2\n");
}

TEST_F(RedisServersTest, ErrorsOfAScriptReadAsThoseOfTheLibrary) {
  std::string told;
  use("redis://h:1", false);
  link_.servers["h:1"] = [&](const Words& words) {
    return error_reply(words[0] == "EVALSHA" ? told : "ERR unknown command 'FCALL'");
  };
  told = "@user_script: 131: -OOM command not allowed when used memory > 'maxmemory'.  ";
  EXPECT_EQ(call({merge("a")}),
            "OOM command not allowed when used memory > 'maxmemory'.\n"
            "fault: h:1: OOM command not allowed when used memory > 'maxmemory'.\n");
  told = "ERR Error running script (call to f_1): @user_script:12: EXPERIMENT FENCED edge";
  EXPECT_EQ(call({merge("a")}), "EXPERIMENT FENCED edge\n");
  told = "EXPERIMENT FENCED edge script: f1, on @user_script:12.";
  EXPECT_EQ(call({merge("a")}), "EXPERIMENT FENCED edge\n");
}

TEST_F(RedisServersTest, FaultsAreCountedByCauseOncePerCall) {
  StoreHealth health{};
  use("redis://h:1").count_in(&health);
  const auto counted = [&] {
    std::string text;
    for (auto& count : health.faults) text += std::to_string(count.exchange(0));
    return text;
  };
  link_.coming = true;
  call({get("a")});
  EXPECT_EQ(counted(), "0000000") << "the first attempt is under way";
  link_.coming = false;
  call({get("a"), get("b")});
  EXPECT_EQ(counted(), "1000000");
  std::string told;
  link_.servers["h:1"] = [&](const Words& words) { return words[1] == "a" ? error_reply(told) : echo(words); };
  for (const auto& [line, counts] : std::vector<std::pair<std::string, std::string>>{
           {"NOPERM this user has no permissions", "0100000"},
           {"OOM command not allowed", "0010000"},
           {"READONLY You can't write", "0010000"},
           {"LOADING Redis is loading", "0001000"},
           {"ERR Function not found", "0000100"},
           {"EXPERIMENT FENCED edge", "0000010"},
           {"MOVED 1 h:2", "0000001"},
           {"TRYAGAIN Multiple keys", "0000000"},
       }) {
    told = line;
    call({get("a"), get("a"), get("b")});
    EXPECT_EQ(counted(), counts) << line;
  }
}

TEST_F(RedisServersTest, AnUnknownCommandOfACallIsItsReply) {
  use("redis://h:1");
  link_.servers["h:1"] = [](const Words&) {
    return error_reply("ERR unknown command 'X', with args beginning with: ");
  };
  EXPECT_EQ(call({get("a")}).find("ERR unknown command 'X'"), 0u);
  EXPECT_EQ(link_.trips.size(), 1u);
  EXPECT_EQ(call({merge("a")}).find("ERR unknown command 'X'"), 0u);
  EXPECT_EQ(link_.trips.size(), 3u);
}

TEST_F(RedisServersTest, LoadsOnEveryMaster) {
  Library one, two;
  two.functions = false;
  use("redis+cluster://a:1", false);
  link_.servers["a:1"] = [&](const Words& words) {
    return words[0] == "CLUSTER" ? slots({{0, 1, "a", 1}, {2, 3, "b", 2}, {4, 5, "c", 3}, {6, 16383, "d", 4}})
                                 : one(words);
  };
  link_.servers["b:2"] = std::ref(two);
  link_.servers["d:4"] = [](const Words&) { return error_reply("NOPERM \x1b"); };
  EXPECT_EQ(servers_->load_library(), (std::vector<std::string>{"c:3: away", "d:4: NOPERM ?"}));
  EXPECT_TRUE(one.loaded && two.script);
  EXPECT_EQ(servers_->masters().size(), 4u);
  link_.servers.clear();
  EXPECT_EQ(use("redis+cluster://a:1").load_library(), (std::vector<std::string>{"a:1: away"}));
  EXPECT_EQ(servers_->load_library(), (std::vector<std::string>{"no master is known"}));
}

TEST_F(RedisServersTest, TellsWhichConnectionBroughtAReply) {
  use("redis://h:1");
  link_.servers["h:1"] = [](const Words& words) {
    return words[1] == "b" ? throw ScriptedLink::Silence() : echo(words);
  };
  EXPECT_EQ(servers_->call({get("a"), get("b")}).connections, (std::vector<std::uint64_t>{7, 0}));
  link_.servers.clear();
  EXPECT_EQ(servers_->call({get("a")}).connections, (std::vector<std::uint64_t>{0}));
}

TEST_F(RedisServersTest, AServerThatIsBeingConnectedToIsNoFault) {
  link_.coming = true;
  use("redis://h:1");
  EXPECT_EQ(call({get("a")}), "LINK h:1: is being connected to\naway\n");
  use("redis+cluster://h:1");
  for (int i = 0; i < 2; ++i) EXPECT_EQ(call({get("a")}), "LINK no master is known\naway\n");
  EXPECT_EQ(servers_->load_library(), (std::vector<std::string>{"no master is known"}));
  EXPECT_EQ(link_.trips.size(), 4u);
  link_.servers["h:1"] = [](const Words& words) {
    return words[0] == "CLUSTER" ? slots({{0, 16383, "h", 1}}) : echo(words);
  };
  EXPECT_EQ(call({get("a")}), "GET a\n");  // at once
}

}  // namespace
}  // namespace experiment::shared
