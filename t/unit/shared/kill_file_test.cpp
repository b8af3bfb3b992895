#include "shared/kill_file.h"

#include <gtest/gtest.h>

namespace experiment::shared {
namespace {

TEST(KillFile, LinesNameExperimentsVariantsOrEverything) {
  const KillFile file = parse_kill_file("# drill\n\n  hero-image  # slow\r\ncheckout/green\n*");
  EXPECT_TRUE(file.errors.empty());
  ASSERT_EQ(file.lines.size(), 3u);
  EXPECT_EQ(file.lines[0].key, "hero-image");
  EXPECT_EQ(file.lines[0].variant, "");
  EXPECT_EQ(file.lines[0].line, 3);
  EXPECT_EQ(file.lines[1].key, "checkout");
  EXPECT_EQ(file.lines[1].variant, "green");
  EXPECT_FALSE(file.lines[1].all);
  EXPECT_TRUE(file.lines[2].all);
  EXPECT_EQ(file.lines[2].line, 5);
}

TEST(KillFile, ABadLineDoesNotKeepTheOthersFromWorking) {
  const KillFile file = parse_kill_file("Hero\na/\n/b\na/b/c\nall\n\x01\ngood\na b");
  ASSERT_EQ(file.lines.size(), 1u);
  EXPECT_EQ(file.lines[0].key, "good");
  ASSERT_EQ(file.errors.size(), 7u);
  EXPECT_EQ(file.errors[0], "line 1: \"Hero\", expected KEY, KEY/VARIANT or *");
  EXPECT_EQ(file.errors[5].find('\x01'), std::string::npos) << "control characters must not reach a terminal";
}

TEST(KillFile, ALineCoversItsTargetAndWhatIsInIt) {
  const KillLine all{"", "", true, 1}, whole{"a", "", false, 1}, variant{"a", "x", false, 1};
  EXPECT_TRUE(covers(all, "", ""));
  EXPECT_TRUE(covers(all, "a", "x"));
  EXPECT_TRUE(covers(whole, "a", ""));
  EXPECT_TRUE(covers(whole, "a", "x"));
  EXPECT_FALSE(covers(whole, "", ""));
  EXPECT_FALSE(covers(whole, "b", ""));
  EXPECT_TRUE(covers(variant, "a", "x"));
  EXPECT_FALSE(covers(variant, "a", ""));
  EXPECT_FALSE(covers(variant, "a", "y"));
}

TEST(KillFile, TheAuthorOfAKillNamesTheFile) {
  EXPECT_EQ(kill_file_of(kill_file_author("/run/x")), "/run/x");
  EXPECT_EQ(kill_file_of("experimentctl (user ana)"), "");
}

}  // namespace
}  // namespace experiment::shared
