#include "shared/redis_login.h"

#include <gtest/gtest.h>

#include <string>

#include "t/unit/shared/redis_process.h"

namespace experiment::shared {
namespace {

RedisReply line(RedisReply::Kind kind, const std::string& text) {
  RedisReply reply;
  reply.kind = kind;
  reply.text = text;
  return reply;
}

TEST(RedisLogin, TakesTheFirstLineOfTheFile) {
  const TemporaryFolder folder;
  RedisAccess access;
  EXPECT_EQ(login_for(access).command + login_for(access).error, "");
  for (const char* text : {"secret", "secret\n", "secret\r\nmore\n"}) {
    access.password_file = folder.write("password", text);
    access.user.clear();
    EXPECT_EQ(login_for(access).command, format_command({"AUTH", "secret"})) << text;
    access.user = "edge";
    EXPECT_EQ(login_for(access).command, format_command({"AUTH", "edge", "secret"})) << text;
    EXPECT_EQ(login_for(access).error, "");
  }
}

TEST(RedisLogin, SaysWhyThereIsNoPassword) {
  const TemporaryFolder folder;
  RedisAccess access;
  access.password_file = folder.path() + "/missing";
  EXPECT_EQ(login_for(access).command, "");
  EXPECT_NE(login_for(access).error.find(access.password_file), std::string::npos);
  access.password_file = folder.write("empty", "\nsecret\n");
  EXPECT_EQ(login_for(access).command, "");
  EXPECT_EQ(login_for(access).error,
            "the password cannot be read (" + access.password_file + ": the first line is empty)");
}

TEST(RedisLogin, ReadsTheAnswer) {
  bool refused = false;
  EXPECT_EQ(login_error(line(RedisReply::Kind::kText, "OK"), refused), "");
  EXPECT_EQ(login_error(line(RedisReply::Kind::kError, "ERR Client sent AUTH, but no password is set"), refused), "");
  for (const char* text : {"WRONGPASS invalid username-password pair or user is disabled.", "ERR invalid password",
                           "NOPERM x", "DENIED x", "ERR secret", "secret"}) {
    refused = false;
    const std::string error = login_error(line(RedisReply::Kind::kError, text), refused);
    EXPECT_NE(error, "") << text;
    EXPECT_EQ(error.find("secret"), std::string::npos);
    EXPECT_TRUE(refused) << text;
  }
  EXPECT_NE(login_error(line(RedisReply::Kind::kText, "secret"), refused), "");
  EXPECT_NE(login_error(line(RedisReply::Kind::kError, "ERR max number of clients reached"), refused), "");
  EXPECT_FALSE(refused);
}

TEST(RedisLogin, Wipes) {
  std::string text = "a secret that is longer than what a string holds in place";
  const char* bytes = text.data();
  wipe(text);
  EXPECT_TRUE(text.empty());
  EXPECT_EQ(bytes[0], '\0');
}

}  // namespace
}  // namespace experiment::shared
