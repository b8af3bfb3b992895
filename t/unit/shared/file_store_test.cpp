#include "shared/file_store.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "shared/key_file.h"
#include "t/unit/shared/store_contract.h"
#include "t/unit/shared/temporary_state.h"

namespace experiment::shared {
namespace {

namespace fs = std::filesystem;

struct FileBackend {
  TemporaryState state;
  std::unique_ptr<Store> open(const std::string& instance) {
    return std::make_unique<FileStore>(state.directory(), instance);
  }
  void publish(const std::string& text) {
    state.make();
    state.write("definitions.json", text);
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Files, StoreContract, FileBackend);

class FileStoreTest : public ::testing::Test {
 protected:
  FileStoreTest() { state_.make(); }
  FileStore tool() const { return FileStore(state_.directory()); }
  TemporaryState state_;
};

bool mentions(const Answer& answer, const std::string& text) {
  for (const std::string& error : answer.errors) {
    if (error.find(text) != std::string::npos) return true;
  }
  return false;
}

std::string all_errors(const Answer& answer) {
  std::string text;
  for (const std::string& error : answer.errors) text += error + "\n";
  return text;
}

// Runs `body` in a process of its own and returns its exit status.
template <typename Body>
int in_child(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST_F(FileStoreTest, TheConstructorDoesNotTouchTheDiskAndAWriteMakesTheDirectory) {
  fs::remove_all(state_.directory());
  FileStore store(state_.directory(), kInstanceA);
  EXPECT_FALSE(fs::exists(state_.directory()));
  const Answer idle = store.exchange({});
  EXPECT_FALSE(fs::exists(state_.directory()));
  EXPECT_TRUE(mentions(idle, state_.file("definitions.json") + ": No such file or directory; no experiment runs"));
  EXPECT_TRUE(store.exchange(offer_runtime(0, {})).runtime_written);
  EXPECT_TRUE(store.exchange(offer_counters({{{"a", 1, 1}, {1}}})).counters_written);
  const auto mode = [](const std::string& path) {
    struct stat status = {};
    ::stat(path.c_str(), &status);
    return status.st_mode & 07777;
  };
  EXPECT_EQ(mode(state_.directory()), 0750u);
  EXPECT_EQ(mode(state_.file("counters")), 0750u);
  EXPECT_EQ(mode(state_.file("runtime.json")), 0640u);
  EXPECT_EQ(mode(state_.file("counters/" + kInstanceA + ".json")), 0640u);
}

TEST_F(FileStoreTest, ADirectoryWithoutParentIsAnErrorNotAThrow) {
  FileStore store("/nonexistent/state", kInstanceA);
  Exchange wants = offer_runtime(0, {});
  wants.counters = Counters{{{"a", 1, 1}, {1}}};
  const Answer answer = store.exchange(wants);
  EXPECT_FALSE(answer.runtime_written);
  EXPECT_FALSE(answer.counters_written);
  EXPECT_TRUE(mentions(answer, "/nonexistent/state/lock: No such file or directory; runtime state not written"));
}

TEST_F(FileStoreTest, AnEditThatKeepsSizeAndTimeIsNoticed) {
  state_.write("definitions.json", "{\"a\":1}");
  FileStore store = FileStore(state_.directory());
  Exchange wants;
  wants.known_document = store.exchange(wants).document->version;
  struct stat before = {};
  ASSERT_EQ(::stat(state_.file("definitions.json").c_str(), &before), 0);
  state_.write("definitions.json", "{\"a\":2}");
  const struct timespec times[2] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, state_.file("definitions.json").c_str(), times, 0), 0);
  const Answer answer = store.exchange(wants);
  ASSERT_TRUE(answer.document);
  EXPECT_EQ(answer.document->text, "{\"a\":2}");
}

TEST_F(FileStoreTest, TheVersionNeverFallsBehindWhatANodeKnows) {
  state_.write("definitions.json", "{}");
  FileStore store(state_.directory());
  EXPECT_EQ(store.exchange({}).document->version, 1u);
  fs::remove(state_.file("store.json"));
  Exchange wants;
  wants.known_document = 41;
  ASSERT_TRUE(store.exchange(wants).document);
  EXPECT_EQ(tool().exchange({}).document->version, 42u);
  state_.write("store.json", "{}");
  const Answer answer = tool().exchange(wants);
  EXPECT_TRUE(mentions(answer, "store.json: refused: "));
  EXPECT_EQ(answer.document->version, 42u);
}

TEST_F(FileStoreTest, ADocumentThatIsMuchTooLongIsReportedAndNotRead) {
  state_.write("definitions.json", "");
  fs::resize_file(state_.file("definitions.json"), 1u << 30);
  const Answer answer = tool().exchange({});
  EXPECT_FALSE(answer.document);
  EXPECT_TRUE(mentions(answer, "definitions.json: 1073741824 bytes, expected at most 8388608"));
}

TEST_F(FileStoreTest, APipeOrADirectoryInAFilesPlaceDoesNotHang) {
  ASSERT_EQ(::mkfifo(state_.file("definitions.json").c_str(), 0600), 0);
  fs::create_directory(state_.file("runtime.json"));
  const Answer answer = tool().exchange({});
  EXPECT_TRUE(mentions(answer, "definitions.json: not a regular file"));
  EXPECT_TRUE(mentions(answer, "runtime.json: not a regular file"));
  EXPECT_TRUE(answer.runtime_unreadable);
}

TEST_F(FileStoreTest, EveryTruncationOfTheRuntimeStateIsRefusedAndKept) {
  ASSERT_TRUE(tool().exchange(offer_runtime(0, runtime_with_kill("a", "why"))).runtime_written);
  const std::string whole = state_.read("runtime.json");
  for (std::size_t length = 0; length < whole.size(); ++length) {
    state_.write("runtime.json", whole.substr(0, length));
    FileStore fresh(state_.directory());
    const Answer answer = fresh.exchange(offer_runtime(0, {}));
    ASSERT_FALSE(answer.runtime || answer.runtime_written) << length;
    ASSERT_TRUE(answer.runtime_unreadable) << length;
    ASSERT_TRUE(mentions(answer, "runtime.json: refused: ")) << length;
    ASSERT_EQ(state_.read("runtime.json"), whole.substr(0, length)) << "evidence was overwritten";
  }
}

TEST_F(FileStoreTest, EveryFlippedByteOfTheRuntimeStateIsRefused) {
  ASSERT_TRUE(tool().exchange(offer_runtime(0, runtime_with_kill("a", "why"))).runtime_written);
  const std::string whole = state_.read("runtime.json");
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string flipped = whole;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << i % 8));
    state_.write("runtime.json", flipped);
    const Answer answer = tool().exchange({});
    ASSERT_FALSE(answer.runtime) << i;
    ASSERT_TRUE(answer.runtime_unreadable) << i;
  }
}

// A node that holds the state puts it back, whether its file was damaged, removed or set back to an older copy.
TEST_F(FileStoreTest, WhatANodeHoldsIsWrittenBackWithTheKillsOfBoth) {
  FileStore node(state_.directory());
  ASSERT_TRUE(node.exchange(offer_runtime(0, runtime_with_kill("a", "first"))).runtime_written);
  const std::string old = state_.read("runtime.json");
  ASSERT_TRUE(node.exchange(offer_runtime(1, runtime_with_kill("b", "second"))).runtime_written);
  Exchange wants;
  wants.known_runtime = 2;

  state_.write("runtime.json", old.substr(0, 100));
  Answer answer = node.exchange(wants);
  EXPECT_TRUE(mentions(answer, "kept as " + state_.file("runtime.json.corrupt-1")));
  EXPECT_EQ(state_.read("runtime.json.corrupt-1"), old.substr(0, 100));
  ASSERT_TRUE(answer.runtime);
  EXPECT_EQ(answer.runtime->version, 3u);
  EXPECT_EQ(tool().exchange({}).runtime->experiments.at("b").kills.at(0).reason, "second");

  fs::remove(state_.file("runtime.json"));
  wants.known_runtime = 3;
  answer = node.exchange(wants);
  EXPECT_TRUE(mentions(answer, "runtime.json: was missing; what is in use was written back as version 4"));

  state_.write("runtime.json", old);  // version 1, with another kill
  wants.known_runtime = 4;
  answer = node.exchange(wants);
  EXPECT_TRUE(mentions(answer, "had version 1"));
  const Runtime mended = *tool().exchange({}).runtime;
  EXPECT_EQ(mended.version, 5u);
  EXPECT_EQ(mended.experiments.at("a").kills.at(0).reason, "first");
  EXPECT_EQ(mended.experiments.at("b").kills.at(0).reason, "second");
}

TEST_F(FileStoreTest, ALeaderThatKnowsTheStateMayWriteItWhereNoneIsLeft) {
  FileStore leader(state_.directory());
  EXPECT_TRUE(leader.exchange(offer_runtime(7, runtime_with_kill("a", "why"))).runtime_written);
  EXPECT_EQ(tool().exchange({}).runtime->version, 8u);
}

TEST_F(FileStoreTest, TwoProcessesThatRaceLoseNoUpdate) {
  constexpr int kRounds = 60, kProcesses = 3;
  const auto work = [&](int who) {
    FileStore store(state_.directory());
    Runtime now;
    for (int done = 0, tries = 0; done < kRounds && tries < 100'000; ++tries) {
      Runtime next = now;
      next.experiments["counter"].arms = {};
      next.experiments["counter"].kills.push_back({"v" + std::to_string(who) + "-" + std::to_string(done), "", "", 0});
      Answer answer = store.exchange(offer_runtime(now.version, next));
      if (answer.runtime_written) {
        now = next;
        ++now.version;
        ++done;
      } else if (answer.runtime) {
        now = *answer.runtime;
      }
      if (done == kRounds) return 0;
    }
    return 1;
  };
  pid_t children[kProcesses];
  for (int who = 0; who < kProcesses; ++who) {
    children[who] = ::fork();
    if (children[who] == 0) ::_exit(work(who));
  }
  for (const pid_t child : children) {
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  const Runtime end = *tool().exchange({}).runtime;
  EXPECT_EQ(end.version, static_cast<std::uint64_t>(kRounds * kProcesses));
  EXPECT_EQ(end.experiments.at("counter").kills.size(), static_cast<std::size_t>(kRounds * kProcesses));
}

// Whatever moment the writer is killed at: the file is whole, and holds every version that was acknowledged.
TEST_F(FileStoreTest, KillingTheWriterLosesNothingThatWasAcknowledged) {
  std::mt19937 random(7);
  std::uint64_t known = 0;
  for (int round = 0; round < 25; ++round) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      FileStore store(state_.directory());
      for (std::uint64_t version = known;; ++version) {
        if (!store.exchange(offer_runtime(version, runtime_with_kill("a", std::string(20'000, 'x')))).runtime_written)
          ::_exit(1);
        const std::uint64_t written = version + 1;
        if (::write(ends[1], &written, sizeof written) != sizeof written) ::_exit(2);
      }
    }
    ::close(ends[1]);
    std::uint64_t acknowledged = 0;
    if (::read(ends[0], &acknowledged, sizeof acknowledged) != sizeof acknowledged) acknowledged = 0;
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 5000));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    for (std::uint64_t next = 0; ::read(ends[0], &next, sizeof next) == sizeof next;) acknowledged = next;
    ::close(ends[0]);
    const Answer answer = tool().exchange({});
    ASSERT_TRUE(answer.runtime) << all_errors(answer);
    ASSERT_GE(answer.runtime->version, acknowledged);
    ASSERT_GT(acknowledged, known);
    known = answer.runtime->version;
  }
}

TEST_F(FileStoreTest, LeftoversOfADeadWriterAreClearedAway) {
  fs::create_directory(state_.file("counters"));
  state_.write("runtime.json.tmp", "half");
  state_.write("definitions.good.json.tmp", "half");
  state_.write("counters/" + kInstanceB + ".json.tmp", "half");
  EXPECT_TRUE(tool().exchange(offer_runtime(0, {})).runtime_written);
  EXPECT_FALSE(fs::exists(state_.file("runtime.json.tmp")));
  EXPECT_FALSE(fs::exists(state_.file("definitions.good.json.tmp")));
  EXPECT_FALSE(fs::exists(state_.file("counters/" + kInstanceB + ".json.tmp")));
}

TEST_F(FileStoreTest, AHeldLockDelaysAWriteAndDoesNotHang) {
  FileLock held(state_.file("lock"), FileLock::Mode::kExclusive, 1);
  ASSERT_TRUE(held.held());
  FileStore store(state_.directory());
  const auto start = std::chrono::steady_clock::now();
  const Answer answer = store.exchange(offer_runtime(0, {}));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  EXPECT_FALSE(answer.runtime_written);
  EXPECT_FALSE(answer.runtime_conflict);
  EXPECT_TRUE(mentions(answer, "lock: held by another process; runtime state not written"));
  held = FileLock();
  EXPECT_TRUE(store.exchange(offer_runtime(0, {})).runtime_written);
}

TEST_F(FileStoreTest, AProcessThatEndsWaitsLongerForTheLock) {
  FileLock held(state_.file("lock"), FileLock::Mode::kExclusive, 1);
  ASSERT_TRUE(held.held());
  FileStore store(state_.directory(), kInstanceA);
  Exchange last = offer_counters({{{"a", 1, 1}, {1}}});
  EXPECT_TRUE(mentions(store.exchange(last), "lock: held by another process; counters not written"));
  last.counters_only = true;
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
    held = FileLock();
  });
  EXPECT_TRUE(store.exchange(last).counters_written);
  other.join();
}

// As an ordinary user, for whom permissions count.
TEST_F(FileStoreTest, AReadOnlyDirectoryIsStillRead) {
  state_.write("definitions.json", "{}");
  ASSERT_TRUE(tool().exchange(offer_runtime(0, runtime_with_kill("a", "why"))).runtime_written);
  state_.write("definitions.json", "{ }");
  for (const char* name : {"runtime.json", "store.json"}) fs::permissions(state_.file(name), fs::perms(0644));
  fs::permissions(state_.directory() + "/..", fs::perms(0755));
  fs::permissions(state_.directory(), fs::perms(0555));
  const int status = in_child([&] {
    if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) return 1;
    FileStore store(state_.directory(), kInstanceA);
    Exchange wants = offer_runtime(1, {});
    wants.counters = Counters{{{"a", 1, 1}, {1}}};
    Answer answer = store.exchange(wants);
    if (answer.runtime_written || answer.counters_written || answer.runtime_conflict) return 2;
    if (!mentions(answer, "counters: Permission denied; counters not written") &&
        !mentions(answer, "lock: Permission denied; counters not written")) {
      return 3;
    }
    if (!mentions(answer, "; runtime state not written")) return 4;
    answer = store.exchange({});
    if (!answer.runtime || answer.runtime->experiments.at("a").kills.at(0).reason != "why") return 5;
    // A changed document takes effect although its number cannot be recorded.
    if (!answer.document || answer.document->text != "{ }" || answer.document->version != 2) return 6;
    return mentions(answer, "version 2 of the definitions is not recorded") ? 0 : 7;
  });
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(WIFEXITED(status));
}

TEST_F(FileStoreTest, AFullDiskKeepsTheOldFilesAndSaysSo) {
  ASSERT_TRUE(tool().exchange(offer_runtime(0, runtime_with_kill("a", "why"))).runtime_written);
  const int status = in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {512, 512};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    FileStore store(state_.directory(), kInstanceA);
    Exchange wants = offer_runtime(1, runtime_with_kill("a", std::string(4096, 'x')));
    Counters many;
    for (std::uint64_t epoch = 0; epoch < 100; ++epoch) many[{"a", 1, epoch}] = {1, 2, 3};
    wants.counters = many;
    Answer answer = store.exchange(wants);
    if (answer.runtime_written || answer.counters_written) return 2;
    if (!mentions(answer, "runtime.json: File too large; runtime state not written, version 1 stays in use")) return 3;
    if (!mentions(answer, "File too large; counters not written, they wait in the zone")) return 4;
    answer = store.exchange({});
    if (!answer.runtime || answer.runtime->version != 1) return 5;
    return fs::exists(state_.file("runtime.json.tmp")) ? 6 : 0;
  });
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(tool().exchange(offer_runtime(1, {})).runtime_written);
}

TEST_F(FileStoreTest, UnchangedCountersAreNotWrittenAgain) {
  FileStore store(state_.directory(), kInstanceA);
  const Exchange wants = offer_counters({{{"a", 1, 1}, {1, 2}}});
  ASSERT_TRUE(store.exchange(wants).counters_written);
  const std::string path = state_.file("counters/" + kInstanceA + ".json");
  const FileStamp before = stamp_of(path);
  EXPECT_TRUE(store.exchange(wants).counters_written);
  EXPECT_TRUE(stamp_of(path) == before);
  fs::remove(path);
  EXPECT_TRUE(store.exchange(wants).counters_written);
  EXPECT_TRUE(fs::exists(path)) << "a file that vanished is written again";
}

TEST_F(FileStoreTest, DamagedCountersAreSetAsideOrLeftOut) {
  FileStore a(state_.directory(), kInstanceA);
  const CounterKey key{"a", 1, 1};
  ASSERT_TRUE(a.exchange(offer_counters({{key, {1}}})).counters_written);
  const std::string name = "counters/" + kInstanceA + ".json";
  state_.write(name, "rubbish");
  EXPECT_TRUE(mentions(tool().exchange({}), name + ": refused: "));
  Answer answer = a.exchange(offer_counters({{key, {2}}}));
  EXPECT_TRUE(answer.counters_written);
  EXPECT_TRUE(mentions(answer, "kept as " + state_.file(name) + ".corrupt-1"));
  EXPECT_EQ(state_.read(name + ".corrupt-1"), "rubbish");
  EXPECT_EQ(*tool().exchange({}).others, (Counters{{key, {2}}}));
  EXPECT_TRUE(mentions(FileStore(state_.directory(), "../../etc/passwd").exchange(offer_counters({})),
                       "is not 22 base64url characters"));
}

void make_old(const std::string& path) {
  fs::last_write_time(path, fs::last_write_time(path) - std::chrono::minutes(11));
}

class FoldingTest : public FileStoreTest {
 protected:
  const CounterKey key_{"a", 1, 1};
  const std::string dead_ = "counters/" + kInstanceB + ".json";
  const Exchange mine_ = offer_counters({{key_, {1}}});

  void leave_dead_instance() {
    FileStore dead(state_.directory(), kInstanceB);
    ASSERT_TRUE(dead.exchange(offer_counters({{key_, {10, 5}}})).counters_written);
    make_old(state_.file(dead_));
  }
};

TEST_F(FoldingTest, AnInstanceThatIsGoneIsFoldedOnceAndItsTotalsStay) {
  leave_dead_instance();
  FileStore alive(state_.directory(), kInstanceA);
  const Answer answer = alive.exchange(mine_);
  EXPECT_FALSE(fs::exists(state_.file(dead_)));
  EXPECT_FALSE(fs::exists(state_.file("counters/" + kInstanceB + ".lock")));
  EXPECT_EQ(*answer.others, (Counters{{key_, {10, 5}}}));
  EXPECT_EQ(*tool().exchange({}).others, (Counters{{key_, {11, 5}}}));
}

TEST_F(FoldingTest, AYoungOrALivingInstanceIsNotFolded) {
  leave_dead_instance();
  FileStore alive(state_.directory(), kInstanceA);
  {
    FileStore back(state_.directory(), kInstanceB);
    ASSERT_TRUE(back.exchange(offer_counters({{key_, {10, 5}}})).counters_written);
    make_old(state_.file(dead_));
    alive.exchange(mine_);
    EXPECT_TRUE(fs::exists(state_.file(dead_))) << "its leader holds it, and had nothing new to write";
    ASSERT_TRUE(back.exchange(offer_counters({{key_, {11, 5}}})).counters_written);
  }
  alive.exchange(mine_);
  EXPECT_TRUE(fs::exists(state_.file(dead_))) << "written less than ten minutes ago";
  tool().exchange({});
  EXPECT_EQ(*tool().exchange({}).others, (Counters{{key_, {12, 5}}}));
}

// The crash between the rename that commits and the removal of the file: counted once, and cleared away later.
TEST_F(FoldingTest, AFoldedInstanceWhoseFileIsStillThereCountsOnce) {
  leave_dead_instance();
  const std::string copy = state_.read(dead_);
  FileStore alive(state_.directory(), kInstanceA);
  alive.exchange(mine_);
  state_.write(dead_, copy);
  EXPECT_EQ(*tool().exchange({}).others, (Counters{{key_, {11, 5}}}));
  make_old(state_.file(dead_));
  EXPECT_EQ(*alive.exchange(mine_).others, (Counters{{key_, {10, 5}}}));
  EXPECT_FALSE(fs::exists(state_.file(dead_)));
}

TEST_F(FoldingTest, AnInstanceThatComesBackIsRefused) {
  leave_dead_instance();
  FileStore(state_.directory(), kInstanceA).exchange(mine_);
  FileStore back(state_.directory(), kInstanceB);
  const Answer answer = back.exchange(offer_counters({{key_, {12, 6}}}));
  EXPECT_FALSE(answer.counters_written);
  EXPECT_TRUE(mentions(answer, "instance " + kInstanceB + " was taken for dead and folded"));
  EXPECT_EQ(*tool().exchange({}).others, (Counters{{key_, {11, 5}}}));
}

TEST_F(FoldingTest, ADamagedSumIsReportedAndNeverReplaced) {
  leave_dead_instance();
  state_.write("counters/folded.json", "rubbish");
  const Answer answer = FileStore(state_.directory(), kInstanceA).exchange(mine_);
  EXPECT_TRUE(mentions(answer, "counters/folded.json: refused: "));
  EXPECT_EQ(state_.read("counters/folded.json"), "rubbish");
  EXPECT_TRUE(fs::exists(state_.file(dead_)));
}

TEST_F(FileStoreTest, ProcessesThatGenerateKeysAtOnceAgree) {
  fs::remove_all(state_.directory());
  constexpr int kProcesses = 4;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  for (int who = 0; who < kProcesses; ++who) {
    if (::fork() != 0) continue;
    std::string error;
    const auto keys = ensure_keys(
        state_.directory(), [&] { return "key of " + std::to_string(who) + "\n"; }, error);
    const char mark = keys && keys->size() == 9 ? keys->at(7) : '?';
    ::_exit(::write(ends[1], &mark, 1) == 1 ? 0 : 1);
  }
  ::close(ends[1]);
  std::string marks(kProcesses, ' ');
  for (char& mark : marks) ASSERT_EQ(::read(ends[0], &mark, 1), 1);
  ::close(ends[0]);
  for (int who = 0; who < kProcesses; ++who) ::wait(nullptr);
  EXPECT_NE(marks[0], '?');
  EXPECT_EQ(marks, std::string(kProcesses, marks[0]));
  struct stat status = {};
  ASSERT_EQ(::stat(state_.file("keys").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
}

TEST(EnsureKeys, AMissingParentIsAnError) {
  std::string error;
  EXPECT_FALSE(ensure_keys(
      "/nonexistent/state", [] { return std::string("x"); }, error));
  EXPECT_NE(error.find("/nonexistent/state"), std::string::npos) << error;
}

}  // namespace
}  // namespace experiment::shared
