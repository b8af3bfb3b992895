#include "shared/document_files.h"

#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "shared/file_store.h"
#include "t/unit/shared/temporary_state.h"

namespace experiment::shared {
namespace {

namespace fs = std::filesystem;

class PublishTest : public ::testing::Test {
 protected:
  PublishTest() { state_.make(); }
  FileStore tool() const { return FileStore(state_.directory()); }
  Published publish(const std::string& text, std::optional<std::uint64_t> expected = {}) const {
    return tool().publish({text, expected, "ana", 1'700'000'000});
  }
  std::vector<DocumentVersion> history() const {
    std::string error;
    auto history = tool().history(error);
    EXPECT_EQ(error, "");
    return history;
  }
  TemporaryState state_;
};

TEST_F(PublishTest, AnEditByHandIsNumberedBeforeItIsCompared) {
  EXPECT_EQ(publish("one").version, 1u);
  state_.write("definitions.json", "by hand");
  const Published late = publish("two", 1);
  EXPECT_TRUE(late.conflict);
  EXPECT_EQ(late.version, 2u);
  EXPECT_EQ(state_.read("definitions.json"), "by hand");
  EXPECT_EQ(publish("two", 2).version, 3u);
  const auto all = history();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[1].text, "by hand");
  EXPECT_EQ(all[1].by, "") << "nobody knows";
  EXPECT_GT(all[1].at_s, 1'700'000'000) << "but when";
  EXPECT_EQ(all[2].by, "ana");
}

TEST_F(PublishTest, TheSameTextIsNoNewVersion) {
  publish("one");
  const Published again = publish("one", 1);
  EXPECT_TRUE(again.written);
  EXPECT_EQ(again.version, 1u);
  EXPECT_EQ(history().size(), 1u);
  EXPECT_TRUE(publish("one", 7).conflict);
}

TEST_F(PublishTest, ANodeThatWatchesGetsWhatWasPublishedUnderItsVersion) {
  FileStore node(state_.directory(), std::string(22, 'A'));
  Exchange wants;
  wants.known_document = 0;
  for (std::uint64_t version = 1; version <= 5; ++version) {
    const std::string text = "document " + std::to_string(version);
    ASSERT_EQ(publish(text).version, version);
    const Answer answer = node.exchange(wants);
    ASSERT_TRUE(answer.document && answer.errors.empty());
    EXPECT_EQ(answer.document->version, version);
    EXPECT_EQ(answer.document->text, text);
    wants.known_document = version;
    EXPECT_FALSE(node.exchange(wants).document);
  }
}

TEST_F(PublishTest, WhereNoDocumentIsVersionNoughtStands) {
  publish("one");
  publish("two");
  fs::remove(state_.file("definitions.json"));
  EXPECT_TRUE(publish("three", 2).conflict);
  const Published third = publish("three", 0);
  EXPECT_TRUE(third.written);
  EXPECT_EQ(third.version, 3u) << "numbers are not used twice";
}

TEST_F(PublishTest, AnEditByHandThatReplacesAnotherKeepsWhatANodeAccepted) {
  FileStore node(state_.directory(), std::string(22, 'A'));
  for (const char* text : {"first by hand", "second by hand", "third by hand"}) {
    state_.write("definitions.json", text);
    Exchange wants;
    Answer answer = node.exchange(wants);
    ASSERT_TRUE(answer.document);
    wants.known_document = answer.document->version;
    if (answer.document->version != 2) wants.good_document = text;
    node.exchange(wants);
  }
  const auto all = history();
  ASSERT_EQ(all.size(), 2u) << "the second was accepted by nobody";
  EXPECT_EQ(all[0].text, "third by hand");
  EXPECT_EQ(all[1].text, "first by hand");
  EXPECT_EQ(all[1].at_s, 0);
}

TEST_F(PublishTest, ALinkOrADirectoryInItsPlaceIsRefused) {
  state_.write("elsewhere.json", "linked");
  fs::create_symlink(state_.file("elsewhere.json"), state_.file("definitions.json"));
  Published refused = publish("one");
  EXPECT_FALSE(refused.written);
  EXPECT_EQ(refused.error, state_.file("definitions.json") +
                               ": a symbolic link, expected a file; edit what it points to; nothing was published");
  EXPECT_EQ(state_.read("elsewhere.json"), "linked");
  fs::remove(state_.file("definitions.json"));
  fs::create_directory(state_.file("definitions.json"));
  refused = publish("one");
  EXPECT_NE(refused.error.find("definitions.json: not a regular file; nothing was published"), std::string::npos);
}

TEST_F(PublishTest, ALockThatIsHeldIsSaid) {
  FileLock held(state_.file("lock"), FileLock::Mode::kExclusive, 1);
  const Published refused = publish("one");
  EXPECT_FALSE(refused.written || refused.conflict);
  EXPECT_NE(refused.error.find("lock: held by another process; nothing was published"), std::string::npos);
}

TEST_F(PublishTest, WhatCannotBeKeptIsNotReplaced) {
  publish("one");
  fs::remove_all(state_.file("history"));
  state_.write("history", "a file in the folder's place");
  const Published refused = publish("two");
  EXPECT_FALSE(refused.written);
  EXPECT_NE(refused.error.find("/history/1.json: Not a directory; nothing was published"), std::string::npos)
      << refused.error;
  EXPECT_EQ(state_.read("definitions.json"), "one");
}

// A tool that was killed between its writes: the history has a version that never stood.
TEST_F(PublishTest, AVersionThatNeverStoodDoesNotCoverTheOneThatDid) {
  publish("one");
  publish("two");
  StateDirectory directory(state_.directory());
  ASSERT_EQ(HistoryFiles(directory).keep({3, 1'700'000'000, "ana", "never stood"}), "");
  state_.write("definitions.json", "one");
  EXPECT_EQ(tool().exchange({}).document->version, 3u);
  EXPECT_EQ(history().at(0).text, "one");
  EXPECT_EQ(publish("four").version, 4u);
  EXPECT_EQ(history().at(1).text, "one");
}

TEST_F(PublishTest, TwoWhoPublishAtOnceLoseNothing) {
  constexpr int kWriters = 3, kRounds = 20;
  pid_t children[kWriters];
  for (int who = 0; who < kWriters; ++who) {
    children[who] = ::fork();
    if (children[who] != 0) continue;
    FileStore store(state_.directory());
    std::uint64_t known = 0;
    for (int done = 0, tries = 0; done < kRounds && tries < 10'000; ++tries) {
      const Published out = store.publish({std::to_string(who) + "/" + std::to_string(done), known, "x", 1});
      known = out.version;
      done += out.written ? 1 : 0;
      if (done == kRounds) ::_exit(0);
    }
    ::_exit(1);
  }
  for (const pid_t child : children) {
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(tool().exchange({}).document->version, static_cast<std::uint64_t>(kWriters * kRounds));
  EXPECT_EQ(history().size(), static_cast<std::size_t>(kWriters * kRounds));
}

}  // namespace
}  // namespace experiment::shared
