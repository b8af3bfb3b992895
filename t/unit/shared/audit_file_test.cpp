#include "shared/audit_file.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include <gtest/gtest.h>

#include "t/unit/shared/temporary_state.h"

namespace experiment::shared {
namespace {

class AuditFileTest : public ::testing::Test {
 protected:
  AuditFileTest() { state_.make(); }
  void record(const std::string& detail) {
    audit_.record({1'700'000'000, "ana", "kill", "hero", "slow", detail}, error_);
    EXPECT_EQ(error_, "");
  }
  TemporaryState state_;
  StateDirectory directory_{state_.directory()};
  AuditFile audit_{directory_};
  std::string error_;
};

TEST_F(AuditFileTest, ALineIsWhatToolsCanRead) {
  record("x");
  EXPECT_EQ(state_.read("audit.jsonl"),
            R"({"at_s":1700000000,"by":"ana","verb":"kill","target":"hero","reason":"slow","detail":"x"})"
            "\n");
  struct stat status = {};
  ASSERT_EQ(::stat(state_.file("audit.jsonl").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
}

TEST_F(AuditFileTest, RotatesAndReadsOnInTheOldFile) {
  record("first");
  const std::string filler(1 << 20, 'x');
  for (int i = 0; i < 4; ++i) record(filler);
  record("second");
  record("third");
  EXPECT_EQ(state_.read("audit.1.jsonl").size() >> 20, 4u);
  EXPECT_LT(state_.read("audit.jsonl").size(), 1000u);
  auto entries = audit_.read(100, error_);
  EXPECT_EQ(error_, "");
  ASSERT_EQ(entries.size(), 7u);
  EXPECT_EQ(entries[0].detail, "third");
  EXPECT_EQ(entries[6].detail, "first");
  EXPECT_EQ(audit_.read(1, error_).at(0).detail, "third");
  for (int i = 0; i < 5; ++i) record(filler);
  entries = audit_.read(100, error_);
  EXPECT_EQ(entries.size(), 7u) << "one old file is kept: second, third, and five long ones";
}

TEST_F(AuditFileTest, DamagedLinesAreOneErrorLineAndTheOthersAreRead) {
  record("first");
  const std::string whole = state_.read("audit.jsonl");
  state_.write("audit.jsonl", whole + "rubbish\n{\"at_s\":1}\n" + whole.substr(0, 20));
  record("second");
  EXPECT_EQ(audit_.read(10, error_).size(), 2u);
  EXPECT_EQ(error_, state_.file("audit.jsonl") + ": 3 lines are no entries; left out");
}

TEST_F(AuditFileTest, AFullDiskLeavesNoHalfLine) {
  record("first");
  const std::string before = state_.read("audit.jsonl");
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {200, 200};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(1);
    std::string error;
    audit_.record({1, "ana", "kill", "hero", std::string(300, 'x'), ""}, error);
    ::_exit(error.find("audit.jsonl: File too large") != error.npos ? 0 : 2);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(state_.read("audit.jsonl"), before);
}

TEST_F(AuditFileTest, ALinkIsNotFollowed) {
  state_.write("elsewhere", "");
  ASSERT_EQ(::symlink(state_.file("elsewhere").c_str(), state_.file("audit.jsonl").c_str()), 0);
  audit_.record({}, error_);
  EXPECT_NE(error_.find("audit.jsonl: "), std::string::npos);
  EXPECT_EQ(state_.read("elsewhere"), "");
}

}  // namespace
}  // namespace experiment::shared
