// RedisServers over a ScriptedLink, and servers that know the library of functions, or not.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "shared/redis_library.h"
#include "shared/redis_servers.h"
#include "t/unit/shared/scripted_link.h"

namespace experiment::shared {

using Words = ScriptedLink::Words;

inline RedisCall get(const std::string& key) {
  return {key, "", {"GET", key}, true};
}
inline RedisCall merge(const std::string& key) {
  return {key, "experiment_merge", {"edge", "1", "2"}, false};
}
inline RedisCall totals(const std::string& key) {
  return {key, "experiment_totals", {"0"}, true};
}

inline RedisReply echo(const Words& words) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : " ") + word;
  return text_reply(all);
}
inline RedisReply slots(const std::vector<std::tuple<int, int, std::string, int>>& ranges) {
  RedisReply all = array_reply({});
  for (const auto& [first, last, host, port] : ranges)
    all.items.push_back(
        array_reply({integer_reply(first), integer_reply(last), array_reply({text_reply(host), integer_reply(port)})}));
  return all;
}

inline std::string text_of(const RedisAnswers& answers) {
  std::string all;
  for (const RedisReply& reply : answers.replies) all += reply.text + "\n";
  for (const std::string& fault : answers.faults) all += "fault: " + fault + "\n";
  return all + (answers.away ? "away\n" : "");
}

struct Library {
  bool loaded = false, script = false;
  bool functions = true;
  std::string refuses;
  RedisReply operator()(const Words& words) {
    if (words[0] == "GET" || words[0] == "ASKING") return echo(words);
    if (words[0] == "EVALSHA") return script ? echo(words) : error_reply("NOSCRIPT No matching script.");
    if (words[0] == "SCRIPT" && words[2] == script_source()) return script = true, text_reply(script_sha());
    if (!functions) return error_reply("ERR unknown command '" + words[0] + "', with args beginning with: ");
    if (words[0] == "FUNCTION" && !refuses.empty()) return error_reply(refuses);
    if (words[0] == "FUNCTION" && words[2] == "REPLACE" && words[3] == library_source())
      return loaded = true, text_reply("experiment");
    return loaded ? echo(words) : error_reply("ERR Function not found");
  }
};

class RedisServersTest : public testing::Test {
 protected:
  RedisServers& use(const std::string& text, bool may_load = true) {
    std::string error;
    const auto url = parse_store_url(text, error);
    EXPECT_TRUE(url) << error;
    servers_ = std::make_unique<RedisServers>(*url, link_, may_load, [this] { return now_; });
    return *servers_;
  }
  std::string call(const std::vector<RedisCall>& calls) { return text_of(servers_->call(calls)); }
  void pass(int ms) { now_ += std::chrono::milliseconds(ms); }

  ScriptedLink link_;
  std::chrono::steady_clock::time_point now_{};
  std::unique_ptr<RedisServers> servers_;
};

}  // namespace experiment::shared
