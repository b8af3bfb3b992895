#include "shared/redis_url.h"

#include <gtest/gtest.h>

#include <string>

namespace experiment::shared {
namespace {

using namespace std::string_literals;

std::string canonical(const std::string& text) {
  std::string error = "left from before";
  const auto url = parse_store_url(text, error);
  EXPECT_EQ(url.has_value(), error.empty());
  return url ? describe(*url) : "error: " + error;
}

TEST(RedisUrl, EveryForm) {
  for (const auto& [text, expected] : std::initializer_list<std::pair<std::string, std::string>>{
           {"redis://redis.internal", "redis://redis.internal:6379"},
           {"rediss://Redis.Internal:6380", "rediss://redis.internal:6380"},
           {"redis://10.0.0.1:1", "redis://10.0.0.1:1"},
           {"redis://[2001:DB8::1]", "redis://[2001:db8::1]:6379"},
           {"redis://[::1]:65535", "redis://[::1]:65535"},
           {"unix:/run/redis.sock", "unix:/run/redis.sock"},
           {"redis+sentinel://a,b:1,[::1]/my-master", "redis+sentinel://a:26379,b:1,[::1]:26379/my-master"},
           {"rediss+sentinel://a/m", "rediss+sentinel://a:26379/m"},
           {"redis+cluster://a", "redis+cluster://a:6379"},
           {"rediss+cluster://a:7000,b:7001", "rediss+cluster://a:7000,b:7001"},
       }) {
    EXPECT_EQ(canonical(text), expected);
    EXPECT_EQ(canonical(expected), expected);
  }
}

TEST(RedisUrl, Parts) {
  std::string error;
  const auto url = parse_store_url("rediss+sentinel://s1,[::1]:5/main", error);
  ASSERT_TRUE(url);
  EXPECT_EQ(url->topology, RedisTopology::kSentinel);
  EXPECT_TRUE(url->tls);
  EXPECT_EQ(url->master, "main");
  ASSERT_EQ(url->endpoints.size(), 2u);
  EXPECT_EQ(url->endpoints[1], (RedisEndpoint{"::1", 5, ""}));
  const auto socket = parse_store_url("unix:/a b", error);
  ASSERT_TRUE(socket);
  EXPECT_EQ(socket->endpoints[0], (RedisEndpoint{"", 0, "/a b"}));
  EXPECT_EQ(socket->topology, RedisTopology::kSingle);
}

TEST(RedisUrl, SaysWhatIsWrong) {
  const std::string host = " is not a host, host:port or [IPv6 address]:port, expected redis://host[:port]";
  for (const std::string text :
       {"redis://", "redis://:1", "redis://h:", "redis://h:0", "redis://h:65536", "redis://h:1x", "redis://h:+1",
        "redis://h/", "redis://h/1", "redis://h?a=b", "redis://::1", "redis://[::1", "redis://[::1]6", "redis://[h]",
        "redis://a,b", "redis://h h"})
    EXPECT_EQ(canonical(text), "error: \"" + text + "\": \"" + text.substr(8) + "\"" + host);
  EXPECT_EQ(canonical("redis+cluster://a,,b"),
            "error: \"redis+cluster://a,,b\": \"\" is not a host, host:port or [IPv6 address]:port, expected "
            "redis+cluster://host[:port],host[:port]");
  EXPECT_EQ(canonical("redis+cluster://a,a:6379"),
            "error: \"redis+cluster://a,a:6379\": \"a:6379\" is named twice, expected "
            "redis+cluster://host[:port],host[:port]");
  for (const std::string text : {"redis+sentinel://a", "redis+sentinel://a/"})
    EXPECT_EQ(canonical(text),
              "error: \"" + text +
                  "\": the name of the master \"\" is not 1 to 100 letters, digits, \"_\", \"-\" and \".\", "
                  "expected redis+sentinel://host[:port],host[:port]/master");
  EXPECT_NE(canonical("redis+sentinel://a/m/n").find("error: "), std::string::npos);
  for (const std::string text : {"unix:", "unix:/", "unix:run", "unix:/a\nb"})
    EXPECT_NE(canonical(text).find("expected unix:/path/to/socket"), std::string::npos) << text;
  EXPECT_NE(canonical("unix:/" + std::string(107, 'a')).find("at most 107 bytes"), std::string::npos);
  EXPECT_EQ(canonical("http://h"),
            "error: \"http\": expected redis:, rediss:, unix:, redis+sentinel:, rediss+sentinel:, redis+cluster: or "
            "rediss+cluster:");
  EXPECT_NE(canonical("redis://a\0b"s).find("a?b"), std::string::npos);
  std::string many = "redis+cluster://h0";
  for (int i = 1; i <= 64; ++i) many += ",h" + std::to_string(i);
  EXPECT_NE(canonical(many).find("more than 64 hosts"), std::string::npos);
}

TEST(RedisUrl, APasswordIsRefusedAndNotRepeated) {
  for (const std::string text : {"redis://:secret@h", "rediss://u:secret@h:1", "redis+sentinel://x:secret@a,b/m",
                                 "http://u:secret@h", "redis:u:secret@h"}) {
    const std::string error = canonical(text);
    EXPECT_EQ(error.find("error: "), 0u) << error;
    EXPECT_EQ(error.find("secret"), std::string::npos) << error;
  }
  EXPECT_EQ(
      canonical("redis://:secret@h"),
      "error: a URL that begins with \"redis://\" holds a user or a password: expected none, they are given by user= "
      "and password_file=");
}

TEST(RedisUrl, Describes) {
  EXPECT_EQ(describe(RedisEndpoint{"h", 1, ""}), "h:1");
  EXPECT_EQ(describe(RedisEndpoint{"::1", 1, ""}), "[::1]:1");
  EXPECT_EQ(describe(RedisEndpoint{"", 0, "/s"}), "unix:/s");
}

TEST(RedisUrl, Namespaces) {
  for (const char* text : {"experiment", "a", "A-1_b.c"}) EXPECT_TRUE(is_namespace(text)) << text;
  EXPECT_TRUE(is_namespace(std::string(40, 'n')));
  EXPECT_FALSE(is_namespace(std::string(41, 'n')));
  for (const char* text : {"", "a:b", "{a}", "a b", "\xc3\xa4", "a\n"}) EXPECT_FALSE(is_namespace(text)) << text;
}

TEST(RedisUrl, HostsThatServersMayName) {
  for (const char* text : {"10.0.0.1", "::1", "node-1.internal"}) EXPECT_TRUE(is_redis_host(text)) << text;
  for (const char* text : {"", "?", "a b", "[::1]", "a:1", "::g"}) EXPECT_FALSE(is_redis_host(text)) << text;
  EXPECT_FALSE(is_redis_host("::1\0"s));
}

}  // namespace
}  // namespace experiment::shared
