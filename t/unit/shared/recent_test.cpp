#include "shared/recent.h"

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace experiment::shared {
namespace {

TEST(RecentExposures, HasWhatWasAddedUntilTheFilterRotates) {
  RecentExposures recent;
  EXPECT_FALSE(recent.has(0x8000000000000001, 0));
  recent.add(0x8000000000000001, 0);
  EXPECT_TRUE(recent.has(0x8000000000000001, 0));
  EXPECT_FALSE(recent.has(0x8000000000000001, 1)) << "marked in a half that the filter has left";
  recent.add(0x10, 1);
  EXPECT_TRUE(recent.has(0x10, 1));
  EXPECT_FALSE(recent.has(0x8000000000000001, 1));
}

TEST(RecentExposures, ForgetsRatherThanTakesOneForAnother) {
  RecentExposures recent;
  const std::uint64_t first = 0xabcd000000000001, second = 0xabcd000000000002;  // of one place
  recent.add(first, 0);
  EXPECT_FALSE(recent.has(second, 0));
  recent.add(second, 0);
  EXPECT_TRUE(recent.has(second, 0));
  EXPECT_FALSE(recent.has(first, 0));
}

// Many more agents than there are places, each asked three times and among others: the answer is that of is_bot().
TEST(RecentAgents, SaysWhatIsBotSays) {
  auto recent = std::make_unique<RecentAgents>();
  std::vector<std::string> agents{"",
                                  "curl/8",
                                  "Googlebot/2.1",
                                  std::string(252, 'x'),
                                  std::string(253, 'x'),
                                  std::string(249, 'x') + "bot",
                                  std::string(2000, 'x') + "bot"};
  for (int version = 0; version < 500; ++version) {
    agents.push_back("Mozilla/5.0 (X11; Linux x86_64) Chrome/" + std::to_string(version) + ".0.0.0 Safari/537.36");
    agents.push_back(agents.back() + (version % 2 == 0 ? " HeadlessChrome" : " Firefox"));
  }
  for (int round = 0; round < 3; ++round) {
    for (const std::string& agent : agents) {
      ASSERT_EQ(recent->is_bot(agent), is_bot(agent)) << agent;
      ASSERT_EQ(recent->is_bot(agent), is_bot(agent)) << agent;
    }
  }
}

TEST(RecentAgents, TakesNoPrefixForTheWhole) {
  auto recent = std::make_unique<RecentAgents>();
  EXPECT_FALSE(recent->is_bot("Agent"));
  EXPECT_TRUE(recent->is_bot("Agentbot"));
  EXPECT_FALSE(recent->is_bot("Agent"));
}

}  // namespace
}  // namespace experiment::shared
