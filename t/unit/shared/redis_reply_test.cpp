#include "shared/redis_reply.h"

#include <gtest/gtest.h>

#include <string>

namespace experiment::shared {
namespace {

using namespace std::string_literals;
using Kind = RedisReply::Kind;

// All in one text, so that replies can be compared.
std::string text_of(const RedisReply& reply) {
  switch (reply.kind) {
    case Kind::kNil:
      return "nil";
    case Kind::kInteger:
      return std::to_string(reply.integer);
    case Kind::kText:
      return "\"" + reply.text + "\"";
    case Kind::kError:
      return "!" + reply.text;
    case Kind::kArray:
      break;
  }
  std::string text = "[";
  for (const RedisReply& item : reply.items) text += (text.size() > 1 ? " " : "") + text_of(item);
  return text + "]";
}

struct Read {
  std::string replies;  // one per line
  std::string error;
};

Read read(std::string_view bytes, std::size_t piece = std::string::npos, const RedisLimits& limits = {}) {
  RedisReader reader(limits);
  Read read;
  while (!bytes.empty() && reader.feed(bytes.substr(0, piece))) bytes.remove_prefix(std::min(piece, bytes.size()));
  while (const auto reply = reader.next()) read.replies += text_of(*reply) + "\n";
  read.error = reader.error();
  return read;
}

std::string bulk(const std::string& text) {
  return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
}

TEST(RedisReply, EveryTypeHoweverItIsSplit) {
  const std::string all =
      "+OK\r\n:-9223372036854775808\r\n$-1\r\n*-1\r\n$0\r\n\r\n$6\r\na\r\n\0b+\r\n-MOVED 1 :2\r\n*0\r\n"
      "*3\r\n*2\r\n:1\r\n*1\r\n+x\r\n$-1\r\n-ERR inside\r\n+\r\n"s;
  const std::string expected =
      "\"OK\"\n-9223372036854775808\nnil\nnil\n\"\"\n\"a\r\n\0b+\"\n!MOVED 1 :2\n[]\n[[1 [\"x\"]] nil !ERR inside]\n\"\"\n"s;
  for (const std::size_t piece : {std::string::npos, std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{7}}) {
    const Read got = read(all, piece);
    EXPECT_EQ(got.replies, expected) << piece;
    EXPECT_EQ(got.error, "") << piece;
  }
}

TEST(RedisReply, WaitsForWhatIsMissing) {
  const std::string whole = "*2\r\n$3\r\nabc\r\n:7\r\n";
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const Read got = read(whole.substr(0, n));
    EXPECT_EQ(got.replies + got.error, "") << n;
  }
}

TEST(RedisReply, WhatIsNotTheProtocolIsAnError) {
  for (const std::string bytes :
       {"hello\r\n", "\r\n", ":1x\r\n", ":\r\n", "$-9\r\n", "$x\r\n", "*-2\r\n", "*9999999999999999999\r\n", "*x\r\n",
        "$3\r\nabcde\r\n", "$3\r\nabc\r\r\n", "+a\rb\r\n", "-a\nb\r\n", "$9223372036854775807\r\n", "+OK\r\n?"}) {
    for (const std::size_t piece : {std::string::npos, std::size_t{1}}) {
      const Read got = read(bytes, piece);
      EXPECT_NE(got.error, "") << bytes;
      EXPECT_EQ(got.replies, bytes == "+OK\r\n?" ? "\"OK\"\n" : "") << bytes;
    }
  }
}

TEST(RedisReply, NothingIsReadAfterAnError) {
  RedisReader reader;
  EXPECT_FALSE(reader.feed("*2\r\n+half\r\n?"));
  const std::string error = reader.error();
  EXPECT_FALSE(reader.feed("+OK\r\n"));
  EXPECT_EQ(reader.next(), std::nullopt);
  EXPECT_EQ(reader.error(), error);
}

TEST(RedisReply, Resp3IsAnError) {
  for (const std::string bytes : {"_\r\n", ",1.5\r\n", "#t\r\n", "(12345\r\n", "%1\r\n+a\r\n:1\r\n", "~1\r\n:1\r\n",
                                  ">1\r\n+a\r\n", "=5\r\ntxt:a\r\n", "|1\r\n+a\r\n:1\r\n:2\r\n", "!3\r\nERR\r\n"}) {
    const Read got = read(bytes);
    EXPECT_EQ(got.replies, "") << bytes;
    EXPECT_NE(got.error, "") << bytes;
  }
}

TEST(RedisReply, ElementsAreLimitedOverAllArraysOfAReply) {
  RedisLimits limits;
  limits.elements = 4;
  EXPECT_EQ(read("*2\r\n*1\r\n:1\r\n*1\r\n:2\r\n*4\r\n:1\r\n:2\r\n:3\r\n:4\r\n", 3, limits).replies,
            "[[1] [2]]\n[1 2 3 4]\n");
  EXPECT_EQ(read("*2\r\n*1\r\n:1\r\n*2\r\n", 3, limits).error, "arrays beyond the limit of elements, 4");
  EXPECT_EQ(read("*2147483647\r\n").error, "arrays beyond the limit of elements, 200000");
}

TEST(RedisReply, AnAnnouncementCostsNoMemory) {
  RedisLimits limits;
  limits.elements = std::size_t{1} << 40;
  RedisReader reader(limits);
  for (int depth = 0; depth < 8; ++depth) EXPECT_TRUE(reader.feed("*2147483647\r\n")) << reader.error();
  EXPECT_EQ(reader.next(), std::nullopt);
}

TEST(RedisReply, DepthIsLimited) {
  const auto nested = [](int depth) {
    std::string bytes;
    for (int i = 0; i < depth; ++i) bytes += "*1\r\n";
    return bytes + ":1\r\n";
  };
  EXPECT_EQ(read(nested(8)).replies, "[[[[[[[[1]]]]]]]]\n");
  EXPECT_NE(read(nested(9)).error, "");
  EXPECT_NE(read(nested(100'000)).error, "");
  RedisLimits limits;
  limits.depth = 1;
  EXPECT_EQ(read(nested(2), 5, limits).replies, "[[1]]\n");
  EXPECT_EQ(read(nested(3), 5, limits).error, "arrays in arrays beyond the limit of depth, 1");
}

TEST(RedisReply, StringsAreLimitedBeforeTheyCome) {
  RedisLimits limits;
  limits.bulk_bytes = 10;
  EXPECT_EQ(read(bulk("0123456789"), 4, limits).replies, "\"0123456789\"\n");
  EXPECT_EQ(read("$11\r\n", 1, limits).error, "a string beyond the limit of bytes, 10");
  EXPECT_EQ(read(bulk("0123456789a"), std::string::npos, limits).error, "a string beyond the limit of bytes, 10");
}

TEST(RedisReply, LinesAreLimited) {
  const std::string line(65'536, 'x');
  EXPECT_EQ(read("+" + line + "\r\n", 1000).replies, "\"" + line + "\"\n");
  EXPECT_EQ(read("+" + line + "x", 1000).error, "");
  EXPECT_EQ(read("+" + line + "xx", 1000).error, "a line without an end");
  EXPECT_EQ(read("+" + line + "x\r\n").error, "a string beyond the limit of bytes, 65536");
  EXPECT_EQ(read("$" + std::string(100'000, '1')).error, "a line without an end");
}

TEST(RedisReply, BytesOfAReplyAreLimited) {
  RedisLimits limits;
  limits.reply_bytes = 20;
  const std::string fits = "*2\r\n:1\r\n+12345678\r\n";
  ASSERT_EQ(fits.size(), 19u);
  const std::string exactly = "*2\r\n:12\r\n+12345678\r\n", over = "*2\r\n:123\r\n+12345678\r\n";
  for (const std::size_t piece : {std::string::npos, std::size_t{1}, std::size_t{5}}) {
    EXPECT_EQ(read(fits + exactly + fits, piece, limits).replies,
              "[1 \"12345678\"]\n[12 \"12345678\"]\n[1 \"12345678\"]\n");
    const Read got = read(fits + over + fits, piece, limits);
    EXPECT_EQ(got.replies, "[1 \"12345678\"]\n");
    EXPECT_EQ(got.error, "a reply beyond the limit of bytes, 20");
  }
}

TEST(RedisReply, BigRepliesWithinTheLimits) {
  const std::string megabytes(5'000'000, 'm');
  EXPECT_EQ(read("*2\r\n" + bulk(megabytes) + bulk("end"), 16'384).replies, "[\"" + megabytes + "\" \"end\"]\n");
  std::string many = "*200000\r\n";
  for (int i = 0; i < 200'000; ++i) many += ":1\r\n";
  RedisReader reader;
  ASSERT_TRUE(reader.feed(many)) << reader.error();
  EXPECT_EQ(reader.next()->items.size(), 200'000u);
}

TEST(RedisReply, MovesWithItsState) {
  RedisReader first;
  first.feed("*2\r\n:1\r\n");
  RedisReader second(std::move(first));
  EXPECT_TRUE(second.feed(":2\r\n"));
  EXPECT_EQ(text_of(*second.next()), "[1 2]");
}

TEST(RedisReply, FormatsCommands) {
  EXPECT_EQ(format_command({"GET", "k"}), "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
  EXPECT_EQ(format_command({"SET", "\0\r\n"s, ""}), "*3\r\n$3\r\nSET\r\n$3\r\n\0\r\n\r\n$0\r\n\r\n"s);
  const std::string big(100'000, 'b');
  EXPECT_EQ(format_command({big}), "*1\r\n" + bulk(big));
}

}  // namespace
}  // namespace experiment::shared
