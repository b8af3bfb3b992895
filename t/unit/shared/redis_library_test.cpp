#include "shared/redis_library.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

namespace experiment::shared {
namespace {

std::string file(const std::string& name) {
  std::ostringstream text;
  text << std::ifstream("shared/redis/" + name, std::ios::binary).rdbuf();
  return text.str();
}

TEST(RedisLibrary, IsTheFileAsItStands) {
  EXPECT_FALSE(library_source().empty());
  EXPECT_EQ(library_source(), file("experiment.lua"));
}

TEST(RedisLibrary, NamesItselfForFunctionLoad) {
  EXPECT_EQ(library_source().rfind("#!lua name=" + std::string(kLibraryName) + "\n", 0), 0u);
}

TEST(RedisLibrary, KnowsTheVersionThatItAnswers) {
  EXPECT_NE(library_source().find("\nlocal VERSION = " + std::to_string(kLibraryVersion) + "\n"), std::string::npos);
}

TEST(RedisLibrary, ScriptIsTheLibraryWithoutItsFirstLineBetweenBeginAndEnd) {
  const std::string library = file("experiment.lua");
  EXPECT_EQ(script_source(),
            file("script_begin.lua") + library.substr(library.find('\n') + 1) + file("script_end.lua"));
}

TEST(RedisLibrary, ScriptIsKnownByItsSha1) {
  // Computed by t/lib/redis_library.py as well, whose calls a server answers.
  const std::string sha = script_sha();
  EXPECT_EQ(sha.size(), 40u);
  EXPECT_EQ(sha.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(sha, script_sha());
}

}  // namespace
}  // namespace experiment::shared
