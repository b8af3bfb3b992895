#include "shared/state_files.h"

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

namespace experiment::shared {
namespace {

class StateFilesTest : public ::testing::Test {
 protected:
  StateFilesTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "state_files_XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  ~StateFilesTest() override { std::filesystem::remove_all(directory_); }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  std::string directory_;
};

// The clock of a file system ticks in milliseconds: a rewrite of the same length within a tick leaves the stamp as it
// was.
TEST_F(StateFilesTest, RewritesFasterThanTheClockOfTheFileSystemAreNoticed) {
  WatchedFile file(path("a"), 100);
  ASSERT_TRUE(file.news());
  for (int i = 0; i < 500; ++i) {
    const std::string text = i % 2 == 0 ? "even" : "odd!";
    std::ofstream(path("a"), std::ios::trunc) << text;
    const auto news = file.news();
    ASSERT_TRUE(news) << "rewrite " << i;
    ASSERT_EQ(news->text, text);
  }
  EXPECT_FALSE(file.news());
}

TEST_F(StateFilesTest, AnOldFileIsSettledAndAYoungOneIsNot) {
  std::ofstream(path("a")) << "text";
  const FileStamp young = stamp_of(path("a"));
  EXPECT_FALSE(young.settled());
  FileStamp old = young;
  old.modified_ns -= 3'000'000'000;
  old.changed_ns -= 3'000'000'000;
  EXPECT_TRUE(old.settled());
  old.changed_ns = young.changed_ns;  // a time set by hand, as cp -p does: the change of the inode still shows
  EXPECT_FALSE(old.settled());
  EXPECT_TRUE(stamp_of(path("missing")).settled());
}

TEST_F(StateFilesTest, AFileIsReplacedWholeWithTheRightMode) {
  EXPECT_EQ(replace_file(path("a"), "one"), "");
  EXPECT_EQ(replace_private_file(path("b"), "two"), "");
  EXPECT_EQ(read_file(path("a"), 100).text, "one");
  EXPECT_EQ(std::filesystem::status(path("a")).permissions(), std::filesystem::perms(0640));
  EXPECT_EQ(std::filesystem::status(path("b")).permissions(), std::filesystem::perms(0600));
  EXPECT_NE(replace_file(path("missing/a"), "x").find("missing/a"), std::string::npos);
  EXPECT_NE(read_file(path("a"), 2).error.find("3 bytes, expected at most 2"), std::string::npos);
}

TEST_F(StateFilesTest, SettingAsideNeverReplacesEvidence) {
  std::string error;
  for (const char* n : {"1", "2", "3"}) {
    std::ofstream(path("a")) << n;
    EXPECT_EQ(set_aside(path("a"), error), path("a.corrupt-") + n);
  }
  EXPECT_EQ(read_file(path("a.corrupt-1"), 100).text, "1");
  EXPECT_EQ(set_aside(path("a"), error), "");
  EXPECT_NE(error.find("No such file"), std::string::npos);
}

TEST_F(StateFilesTest, SharedLocksGoTogetherAndKeepAnExclusiveOneOut) {
  FileLock one(path("lock"), FileLock::Mode::kShared, 1), two(path("lock"), FileLock::Mode::kShared, 1);
  EXPECT_TRUE(one.held() && two.held());
  const FileLock third(path("lock"), FileLock::Mode::kExclusive, 2);
  EXPECT_FALSE(third.held());
  EXPECT_TRUE(third.busy());
  one = FileLock();
  two = FileLock();
  EXPECT_TRUE(FileLock(path("lock"), FileLock::Mode::kExclusive, 1).held());
  const FileLock nowhere(path("missing/lock"), FileLock::Mode::kShared, 1);
  EXPECT_FALSE(nowhere.held() || nowhere.busy());
}

}  // namespace
}  // namespace experiment::shared
