// A RedisLink whose servers are functions of the test, and which tells what was sent where.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "shared/redis_link.h"
#include "shared/redis_reply.h"
#include "shared/redis_url.h"

namespace experiment::shared {

inline RedisReply text_reply(const std::string& text) {
  RedisReply reply;
  reply.kind = RedisReply::Kind::kText;
  reply.text = text;
  return reply;
}
inline RedisReply error_reply(const std::string& text) {
  RedisReply reply = text_reply(text);
  reply.kind = RedisReply::Kind::kError;
  return reply;
}
inline RedisReply integer_reply(std::int64_t integer) {
  RedisReply reply;
  reply.kind = RedisReply::Kind::kInteger;
  reply.integer = integer;
  return reply;
}
inline RedisReply array_reply(std::vector<RedisReply> items) {
  RedisReply reply;
  reply.kind = RedisReply::Kind::kArray;
  reply.items = std::move(items);
  return reply;
}

class ScriptedLink : public RedisLink {
 public:
  using Words = std::vector<std::string>;
  // Answers one command. Throws Silence: the server says no more.
  using Server = std::function<RedisReply(const Words&)>;
  struct Silence {};

  RedisRoundTrip round_trip(const RedisEndpoint& to, const std::vector<std::string>& commands) override {
    RedisRoundTrip trip;
    trip.connection = 7;
    std::string sent = describe(to) + " <";
    const auto server = servers.find(describe(to));
    for (const std::string& command : commands) {
      const Words words = words_of(command);
      sent += " " + words[0] + (words.size() > 1 ? ":" + words[1].substr(0, 30) : "");
      if (server == servers.end() || !trip.error.empty()) continue;
      try {
        trip.replies.push_back(server->second(words));
      } catch (const Silence&) {
        trip.error = describe(to) + ": silent";
      }
    }
    trips.push_back(sent);
    trip.away = server == servers.end();
    if (trip.away) trip.error = coming ? "" : describe(to) + ": away";
    return trip;
  }
  void keep_only(const std::vector<RedisEndpoint>& endpoints) override {
    kept.clear();
    for (const RedisEndpoint& one : endpoints) kept += (kept.empty() ? "" : " ") + describe(one);
  }
  void listen(const RedisEndpoint& to, const std::string& channel) override {
    listened.push_back(channel + " " + describe(to));
  }

  // What was sent since the last look, one line per trip.
  std::string take_trips() {
    std::string all;
    for (const std::string& trip : trips) all += trip + "\n";
    trips.clear();
    return all;
  }

  std::map<std::string, Server> servers;
  std::vector<std::string> trips, listened;
  std::string kept;
  bool coming = false;  // servers that are away are being connected to

 private:
  static Words words_of(const std::string& command) {
    RedisReader reader;
    reader.feed(command);
    const RedisReply command_read = reader.next().value();
    Words words;
    for (const RedisReply& word : command_read.items) words.push_back(word.text);
    return words;
  }
};

}  // namespace experiment::shared
