#include "shared/edge_files.h"

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "t/unit/shared/temporary_state.h"

namespace experiment::shared {
namespace {

using std::chrono::seconds;

const std::string kOne(22, '1'), kTwo(22, '2');

class EdgeFilesTest : public ::testing::Test {
 protected:
  EdgeFilesTest() { state_.make(); }
  std::vector<std::string> report(EdgeFiles& edge, const std::string& text) {
    Exchange wants;
    wants.report = text;
    Answer answer;
    edge.exchange(wants, answer);
    return answer.errors;
  }
  FileStamp stamp(const std::string& instance) const { return stamp_of(state_.file(name(instance))); }
  static std::string name(const std::string& instance) { return "edges/" + instance + ".json"; }

  TemporaryState state_;
  StateDirectory directory_{state_.directory()};
  EdgeFiles one_{directory_, kOne}, two_{directory_, kTwo};
  std::string error_;
};

TEST_F(EdgeFilesTest, IsWrittenWhenItChangesAndEveryMinute) {
  EXPECT_TRUE(report(one_, "{\"document\":1}").empty());
  const FileStamp first = stamp(kOne);
  report(one_, "{\"document\":1}");
  EXPECT_TRUE(stamp(kOne) == first) << "unchanged and young";
  report(one_, "{\"document\":2}");
  EXPECT_EQ(state_.read(name(kOne)), "{\"document\":2}");
  for (const seconds age : {seconds(61), seconds(-61)}) {  // or the clock was set back
    state_.make_old(name(kOne), age);
    report(one_, "{\"document\":2}");
    EXPECT_LT(std::llabs(stamp(kOne).age_ns()), 10'000'000'000);
  }
  state_.make_old(name(kOne), seconds(50));
  EXPECT_GE(EdgeFiles(directory_, "").read(error_).at(0).age_s, 50);
  std::filesystem::remove(state_.file(name(kOne)));
  report(one_, "{\"document\":2}");
  EXPECT_TRUE(stamp(kOne).exists()) << "a file that vanished is written again";
}

TEST_F(EdgeFilesTest, AnEdgeThatIsSilentForAnHourIsForgotten) {
  report(one_, "{}");
  report(two_, "{}");
  EXPECT_EQ(one_.read(error_).size(), 2u);
  state_.make_old(name(kTwo), seconds(3590));
  report(one_, "{\"document\":1}");
  EXPECT_EQ(one_.read(error_).size(), 2u);
  state_.make_old(name(kTwo), seconds(20));
  EXPECT_EQ(one_.read(error_).size(), 1u);
  EXPECT_TRUE(stamp(kTwo).exists()) << "readers write nothing";
  report(one_, "{\"document\":2}");
  EXPECT_FALSE(stamp(kTwo).exists());
}

TEST_F(EdgeFilesTest, ACallerWithoutInstanceWritesNothing) {
  EdgeFiles tool(directory_, "");
  EXPECT_TRUE(report(tool, "{}").empty());
  EXPECT_FALSE(std::filesystem::exists(state_.file("edges")));
  EXPECT_TRUE(tool.read(error_).empty());
  EXPECT_EQ(error_, "");
}

TEST_F(EdgeFilesTest, FaultsAreLines) {
  report(one_, "{}");
  std::filesystem::create_directory(state_.file(name(kTwo)));
  EXPECT_EQ(one_.read(error_).size(), 1u);
  EXPECT_EQ(error_, state_.file(name(kTwo)) + ": not a regular file; left out");
  const auto errors = report(two_, "{}");
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0], state_.file(name(kTwo)) + ": Is a directory; what this edge does is not reported");
  EXPECT_TRUE(report(two_, "{}").empty()) << "not at every exchange";
}

}  // namespace
}  // namespace experiment::shared
