#include "shared/redis_topology.h"

#include <gtest/gtest.h>

#include <string>

namespace experiment::shared {
namespace {

const RedisEndpoint kAsked{"asked.example", 7000, ""};

RedisReply reply(const std::string& bytes) {
  RedisReader reader;
  EXPECT_TRUE(reader.feed(bytes)) << reader.error();
  auto read = reader.next();
  EXPECT_TRUE(read) << bytes;
  return read.value_or(RedisReply{});
}
RedisReply error_reply(const std::string& line) {
  return reply("-" + line + "\r\n");
}

std::string bulk(const std::string& text) {
  return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
}
std::string node(const std::string& host, int port) {
  return "*3\r\n" + bulk(host) + ":" + std::to_string(port) + "\r\n" + bulk("id") + "";
}
std::string range(int first, int last, const std::vector<std::string>& nodes) {
  std::string text = "*" + std::to_string(2 + nodes.size()) + "\r\n:" + std::to_string(first) +
                     "\r\n:" + std::to_string(last) + "\r\n";
  for (const std::string& one : nodes) text += one;
  return text;
}
std::string ranges(const std::vector<std::string>& all) {
  std::string text = "*" + std::to_string(all.size()) + "\r\n";
  for (const std::string& one : all) text += one;
  return text;
}
std::string owner(const SlotMap& map, std::uint16_t slot) {
  const RedisEndpoint* found = map.find(slot);
  return found == nullptr ? "nobody" : describe(*found);
}

// Bit by bit, as the specification of the cluster gives it.
std::uint16_t crc16(std::string_view text) {
  std::uint16_t crc = 0;
  for (const char c : text) {
    crc ^= static_cast<std::uint16_t>(static_cast<std::uint8_t>(c) << 8);
    for (int bit = 0; bit < 8; ++bit) crc = static_cast<std::uint16_t>((crc & 0x8000) ? (crc << 1) ^ 0x1021 : crc << 1);
  }
  return crc;
}

TEST(RedisTopology, KeySlots) {
  EXPECT_EQ(key_slot("123456789"), 0x31c3);  // the specification's check value
  EXPECT_EQ(key_slot("foo"), 12182);
  EXPECT_EQ(key_slot(""), 0);
  for (int i = 0; i < 1000; ++i) {
    const std::string key = "experiment:c:e" + std::to_string(i * 7919) + ":\xff";
    EXPECT_EQ(key_slot(key), crc16(key) % 16384) << key;
  }
}

TEST(RedisTopology, HashTags) {
  EXPECT_EQ(key_slot("{user1000}.following"), key_slot("user1000"));
  EXPECT_EQ(key_slot("a{user1000}b{c}"), key_slot("user1000"));
  EXPECT_EQ(key_slot("foo{}{bar}"), crc16("foo{}{bar}") % 16384);
  EXPECT_EQ(key_slot("foo{{bar}}zap"), key_slot("{bar"));
  EXPECT_EQ(key_slot("foo{bar}{zap}"), key_slot("bar"));
  EXPECT_EQ(key_slot("}{a"), crc16("}{a") % 16384);
  EXPECT_EQ(key_slot("{"), crc16("{") % 16384);
}

TEST(RedisTopology, ReadsClusterSlots) {
  std::string error;
  const auto map =
      SlotMap::parse(reply(ranges({range(0, 5460, {node("10.0.0.1", 7000), node("10.0.0.4", 7003)}),
                                   range(5461, 5461, {node("::1", 7001)}), range(5462, 10922, {node("", 7002)}),
                                   range(10923, 16000, {node("10.0.0.1", 7000)})})),
                     kAsked, error);
  ASSERT_TRUE(map) << error;
  EXPECT_EQ(owner(*map, 0), "10.0.0.1:7000");
  EXPECT_EQ(owner(*map, 5460), "10.0.0.1:7000");
  EXPECT_EQ(owner(*map, 5461), "[::1]:7001");
  EXPECT_EQ(owner(*map, 5462), "asked.example:7002");
  EXPECT_EQ(owner(*map, 16000), "10.0.0.1:7000");
  EXPECT_EQ(owner(*map, 16001), "nobody");
  EXPECT_EQ(owner(*map, 65535), "nobody");
  EXPECT_EQ(map->masters().size(), 3u);
  EXPECT_EQ(map->nodes().size(), 4u);
}

TEST(RedisTopology, ReadsWhatNewerServersAdd) {
  std::string error;
  const std::string with_names =
      "*4\r\n" + bulk("10.0.0.1") + ":7000\r\n" + bulk("id") + "*2\r\n" + bulk("hostname") + bulk("h");
  const std::string unknown = "*4\r\n$-1\r\n:7001\r\n" + bulk("id") + "*0\r\n";
  const auto map =
      SlotMap::parse(reply(ranges({range(0, 1, {with_names}), range(2, 3, {unknown}), range(4, 5, {node("?", 7002)})})),
                     kAsked, error);
  ASSERT_TRUE(map) << error;
  EXPECT_EQ(owner(*map, 1), "10.0.0.1:7000");
  EXPECT_EQ(owner(*map, 2), "asked.example:7001");
  EXPECT_EQ(owner(*map, 4), "nobody");
}

TEST(RedisTopology, RefusesWhatIsNoSlotMap) {
  const std::string one = node("10.0.0.1", 7000);
  for (const std::string& bytes :
       {std::string("+OK\r\n"), std::string("*0\r\n"), std::string("*1\r\n:1\r\n"), ranges({range(0, 16384, {one})}),
        ranges({range(-1, 5, {one})}), ranges({range(5, 4, {one})}), ranges({range(0, 1, {})}),
        ranges({range(0, 1, {"+x\r\n"})}), ranges({range(0, 1, {one}), range(2, 1 << 30, {one})}),
        std::string("*1\r\n*3\r\n+0\r\n:1\r\n" + one), std::string("*1\r\n*3\r\n:0\r\n:9223372036854775807\r\n" + one),
        ranges({range(0, 1, {node("a b", 7000)})}), ranges({range(0, 1, {node("h", 0)})}),
        ranges({range(0, 1, {node("h", 65536)})})}) {
    std::string error;
    EXPECT_FALSE(SlotMap::parse(reply(bytes), kAsked, error)) << bytes;
    EXPECT_EQ(error.find("CLUSTER SLOTS: "), 0u) << error;
  }
  std::string error;
  EXPECT_FALSE(SlotMap::parse(error_reply("ERR This instance has cluster support disabled"), kAsked, error));
}

TEST(RedisTopology, MovedChangesTheMap) {
  std::string error;
  auto map = SlotMap::parse(reply(ranges({range(0, 16383, {node("a", 1)})})), kAsked, error);
  ASSERT_TRUE(map);
  map->assign(7, {"b", 2, ""});
  map->assign(8, {"a", 1, ""});
  map->assign(16384, {"c", 3, ""});
  EXPECT_EQ(owner(*map, 6), "a:1");
  EXPECT_EQ(owner(*map, 7), "b:2");
  EXPECT_EQ(owner(*map, 8), "a:1");
  EXPECT_EQ(map->masters().size(), 2u);
  for (int i = 0; i < 5000; ++i) map->assign(9, {"h" + std::to_string(i), 1, ""});
  EXPECT_EQ(map->nodes().size(), 2000u);
  EXPECT_EQ(owner(*map, 9), "nobody");
}

TEST(RedisTopology, SentinelsAndRoles) {
  EXPECT_EQ(describe(parse_sentinel_master(reply("*2\r\n" + bulk("10.0.0.1") + bulk("6379"))).value()),
            "10.0.0.1:6379");
  EXPECT_EQ(describe(parse_sentinel_master(reply("*2\r\n" + bulk("::1") + bulk("1"))).value()), "[::1]:1");
  for (const std::string& bytes :
       {std::string("$-1\r\n"), std::string("*-1\r\n"), "*2\r\n" + bulk("") + bulk("1"),
        "*2\r\n" + bulk("h") + bulk("0"), "*2\r\n" + bulk("h") + bulk("65536"), "*2\r\n" + bulk("h") + bulk("1 "),
        "*2\r\n" + bulk("h h") + bulk("1"), "*1\r\n" + bulk("h"), "*2\r\n" + bulk("h") + ":1\r\n",
        std::string("-ERR No such master with that name\r\n")})
    EXPECT_FALSE(parse_sentinel_master(reply(bytes))) << bytes;
  EXPECT_TRUE(is_master_role(reply("*3\r\n" + bulk("master") + ":0\r\n*0\r\n")));
  EXPECT_FALSE(is_master_role(reply("*2\r\n" + bulk("slave") + bulk("master"))));
  EXPECT_FALSE(is_master_role(reply("*0\r\n")));
  EXPECT_FALSE(is_master_role(reply("+master\r\n")));
}

// As Redis 7.0.15 writes them, where nothing else is said.
TEST(RedisTopology, TellsFaultsApart) {
  for (const auto& [line, fault] : std::initializer_list<std::pair<std::string, RedisFault>>{
           {"MOVED 3999 127.0.0.1:6381", RedisFault::kMoved},
           {"ASK 3999 127.0.0.1:6381", RedisFault::kAsk},
           {"TRYAGAIN Multiple keys request during rehashing of slot", RedisFault::kTryAgain},
           {"CLUSTERDOWN Hash slot not served", RedisFault::kClusterDown},
           {"READONLY You can't write against a read only replica.", RedisFault::kReadOnly},
           {"LOADING Redis is loading the dataset in memory", RedisFault::kLoading},
           {"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            RedisFault::kMasterDown},
           {"BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
            RedisFault::kBusy},
           {"NOREPLICAS Not enough good replicas to write.", RedisFault::kNoReplicas},
           {"NOAUTH Authentication required.", RedisFault::kNoAuth},
           {"WRONGPASS invalid username-password pair or user is disabled.", RedisFault::kWrongPass},
           {"ERR invalid password", RedisFault::kWrongPass},
           {"ERR AUTH <password> called without any password configured for the default user. Are you sure your "
            "configuration is correct?",
            RedisFault::kNoPasswordSet},
           {"ERR Client sent AUTH, but no password is set", RedisFault::kNoPasswordSet},
           {"NOPERM this user has no permissions to run the 'fcall' command", RedisFault::kNoPerm},
           {"DENIED Redis is running in protected mode", RedisFault::kNoPerm},
           {"OOM command not allowed when used memory > 'maxmemory'.", RedisFault::kOutOfMemory},
           {"MISCONF Redis is configured to save RDB snapshots, but", RedisFault::kMisconf},
           {"NOSCRIPT No matching script. Please use EVAL.", RedisFault::kNoScript},
           {"ERR Function not found", RedisFault::kNoFunction},
           {"ERR Library not found", RedisFault::kNoLibrary},
           {"ERR unknown command 'FCALL', with args beginning with: 'f' '1' 'k' ", RedisFault::kUnknownCommand},
           {"ERR unknown command `FCALL`, with args beginning with: `f`, ", RedisFault::kUnknownCommand},
           {"WRONGTYPE Operation against a key holding the wrong kind of value script: f, on @user_function:3.",
            RedisFault::kWrongType},
           {"ERR This instance has cluster support disabled", RedisFault::kNotACluster},
           {"EXPERIMENT FENCED instance", RedisFault::kExperiment},
           {"EXPERIMENT", RedisFault::kExperiment},
           {"LINK 127.0.0.1:1: no connection", RedisFault::kLink},
           {"ERR Error running script (call to f_1): @user_script:1: WRONGTYPE Operation against",
            RedisFault::kWrongType},
           {"ERR Error running script (call to f_1): @user_script:9: @user_script: 9: -OOM command not allowed",
            RedisFault::kOutOfMemory},
           {"@user_script: 131: -OOM command not allowed when used memory > 'maxmemory'.  ", RedisFault::kOutOfMemory},
           {"@user_script: 131: -READONLY You can't write against a read only replica.  ", RedisFault::kReadOnly},
           {"ERR Error running script (call to f_1): @user_script:9: EXPERIMENT FENCED x", RedisFault::kExperiment},
           {"ERR Error running script", RedisFault::kOther},
           {"ERR Error running script @user_script:", RedisFault::kOther},
           {"BUSYGROUP Consumer Group name already exists", RedisFault::kOther},
           {"ERR wrong number of arguments", RedisFault::kOther},
           {"", RedisFault::kOther},
       })
    EXPECT_EQ(fault_of(error_reply(line)), fault) << line;
  EXPECT_EQ(fault_of(reply("+MOVED 1 h:1\r\n")), RedisFault::kNone);
}

// As servers of 6.0 and 7.0 said them.
TEST(RedisTopology, ThePlaceInAScriptIsNoPartOfWhatAnErrorSays) {
  for (const auto& [line, said] : std::vector<std::pair<std::string, std::string>>{
           {"EXPERIMENT FENCED edge", "EXPERIMENT FENCED edge"},
           {"ERR Error running script (call to f_1): @user_script:12: EXPERIMENT FENCED edge: since 5, expected one",
            "EXPERIMENT FENCED edge: since 5, expected one"},
           {"EXPERIMENT FENCED edge script: 622c82a9, on @user_script:12.", "EXPERIMENT FENCED edge"},
           {"WRONGTYPE Operation against a key script: experiment_merge, on @user_function:12.",
            "WRONGTYPE Operation against a key"},
           {"ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -OOM command not allowed.",
            "OOM command not allowed."},
           {"@user_script: 1: -READONLY You can't write against a read only replica.  ",
            "READONLY You can't write against a read only replica."},
       })
    EXPECT_EQ(without_place(line), said);
  for (const char* line :
       {"", "OOM", "ERR Error running script (call to f_1): @user_script:12: attempt to index a nil value",
        "ERR user_script:1: Script attempted to access nonexistent global variable 'x' script: 0266, on "
        "@user_script:1.",
        "@user_script:", "EXPERIMENT totals: script: 'x', expected one"})
    EXPECT_EQ(without_place(line), line);
}

TEST(RedisTopology, FaultsThatMayPass) {
  for (const char* line : {"TRYAGAIN x", "LOADING x", "READONLY x", "OOM x", "LINK x", "CLUSTERDOWN x", "NOREPLICAS x"})
    EXPECT_TRUE(is_passing(fault_of(error_reply(line)))) << line;
  for (const char* line : {"NOAUTH x", "WRONGTYPE x", "EXPERIMENT x", "ERR x", "ERR Function not found", "NOPERM x"})
    EXPECT_FALSE(is_passing(fault_of(error_reply(line)))) << line;
}

TEST(RedisTopology, LinesForLogs) {
  EXPECT_EQ(printable("ERR a\x1b[0m\xc3\xa4\x7f"), "ERR a?[0m???");
  EXPECT_EQ(printable(std::string(300, 'x')), std::string(200, 'x'));
}

TEST(RedisTopology, Redirects) {
  const auto moved = parse_redirect("MOVED 3999 127.0.0.1:6381", kAsked);
  ASSERT_TRUE(moved);
  EXPECT_FALSE(moved->ask);
  EXPECT_EQ(moved->slot, 3999);
  EXPECT_EQ(describe(moved->to), "127.0.0.1:6381");
  const auto ask = parse_redirect("ASK 0 ::1:6381", kAsked);
  ASSERT_TRUE(ask);
  EXPECT_TRUE(ask->ask);
  EXPECT_EQ(describe(ask->to), "[::1]:6381");
  EXPECT_EQ(describe(parse_redirect("MOVED 1 :6381", kAsked)->to), "asked.example:6381");
  for (const char* line :
       {"MOVED", "MOVED ", "MOVED 1", "MOVED 1 h", "MOVED 1 h:", "MOVED 1 h:0", "MOVED 1 h:65536", "MOVED 16384 h:1",
        "MOVED -1 h:1", "MOVED x h:1", "MOVED 1 ?:1", "MOVED 1 a b:1", "MOVED:1 1", "ASKED 1 h:1", "TRYAGAIN 1 h:1"})
    EXPECT_FALSE(parse_redirect(line, kAsked)) << line;
}

}  // namespace
}  // namespace experiment::shared
