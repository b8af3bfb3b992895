#include "shared/history_files.h"

#include <string>

#include <gtest/gtest.h>

#include "t/unit/shared/temporary_state.h"

namespace experiment::shared {
namespace {

class HistoryFilesTest : public ::testing::Test {
 protected:
  HistoryFilesTest() { state_.make(); }
  TemporaryState state_;
  StateDirectory directory_{state_.directory()};
  HistoryFiles history_{directory_};
  std::string error_;
};

TEST_F(HistoryFilesTest, KeepsTheNewestHundred) {
  for (std::uint64_t version = 1; version <= 103; ++version) {
    ASSERT_EQ(history_.keep({version, 5, "ana", "text " + std::to_string(version)}), "");
  }
  const auto all = history_.read(error_);
  EXPECT_EQ(error_, "");
  ASSERT_EQ(all.size(), 100u);
  EXPECT_EQ(all.front().version, 103u);
  EXPECT_EQ(all.back().version, 4u);
  EXPECT_EQ(all.back().text, "text 4");
  EXPECT_EQ(state_.names("history").size(), 100u);
}

TEST_F(HistoryFilesTest, WhoMadeItStaysWhenItIsKeptAgain) {
  ASSERT_EQ(history_.keep({7, 5, "ana", "text"}), "");
  ASSERT_EQ(history_.keep({7, 0, "", "text"}), "");
  EXPECT_EQ(history_.read(error_).at(0).by, "ana");
  ASSERT_EQ(history_.keep({7, 9, "bob", "another"}), "");
  EXPECT_EQ(history_.read(error_).at(0).by, "bob");
}

TEST_F(HistoryFilesTest, WhatCannotBeReadIsOneLineAndTheRestIsThere) {
  for (std::uint64_t version : {1, 2, 3, 4}) ASSERT_EQ(history_.keep({version, 5, "ana", "text"}), "");
  state_.write("history/2.json", "rubbish");
  state_.write("history/3.json", state_.read("history/4.json"));
  state_.write("history/notes.json", "not ours");
  const auto some = history_.read(error_);
  ASSERT_EQ(some.size(), 2u);
  EXPECT_EQ(some[0].version, 4u);
  EXPECT_EQ(some[1].version, 1u);
  EXPECT_EQ(error_, state_.file("history/3.json") + ": refused: holds version 4; so are 1 more versions; left out");
  ASSERT_EQ(history_.keep({2, 5, "ana", "text"}), "") << "and is written again";
  history_.read(error_ = "");
  EXPECT_EQ(error_, state_.file("history/3.json") + ": refused: holds version 4; left out");
}

}  // namespace
}  // namespace experiment::shared
