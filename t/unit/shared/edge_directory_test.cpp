#include "shared/edge_directory.h"

#include <gtest/gtest.h>

#include "shared/file_store.h"
#include "t/unit/shared/store_contract.h"
#include "t/unit/shared/temporary_state.h"

namespace experiment::shared {
namespace {

TEST(EdgeDirectory, BelongsToTheStoreThatTookIt) {
  TemporaryState state;
  const EdgeDirectory belongs{StateDirectory(state.directory())};
  EXPECT_EQ(belongs.store(), "");
  EXPECT_NE(belongs.take("redis://a:1 shop"), "") << "there is no directory";
  state.make();
  EXPECT_EQ(belongs.store(), "");
  EXPECT_EQ(belongs.take("redis://a:1 shop"), "");
  EXPECT_EQ(belongs.store(), "redis://a:1 shop");
  EXPECT_EQ(belongs.take("redis://b:2 shop"), "");
  EXPECT_EQ(belongs.store(), "redis://b:2 shop");
  belongs.leave();
  EXPECT_EQ(belongs.store(), "");
}

TEST(EdgeDirectory, WhatCannotBeReadNamesNoStore) {
  TemporaryState state;
  state.make();
  const EdgeDirectory belongs{StateDirectory(state.directory())};
  for (const char* text : {"", "rubbish", R"({"store":"redis://a:1 shop"})"}) {
    state.write("fleet.json", text);
    EXPECT_EQ(belongs.store(), "") << text;
  }
}

TEST(EdgeDirectory, AStoreAsOptionsOfATool) {
  EXPECT_EQ(store_options("redis+sentinel://a:1,b:2/main shop"),
            "--store redis+sentinel://a:1,b:2/main --namespace shop");
  EXPECT_EQ(store_options("unix:/run/redis.sock"), "--store unix:/run/redis.sock");
}

TEST(EdgeDirectory, ANodeOfItsOwnLeavesTheFleetAndAToolDoesNot) {
  TemporaryState state;
  state.make();
  const EdgeDirectory belongs{StateDirectory(state.directory())};
  EXPECT_EQ(belongs.take("redis://a:1 shop"), "");
  FileStore(state.directory()).exchange({});
  EXPECT_EQ(belongs.store(), "redis://a:1 shop");
  Exchange end;
  end.counters_only = true;  // of a worker that was told to go, perhaps to a fleet
  FileStore(state.directory(), kInstanceA).exchange(end);
  EXPECT_EQ(belongs.store(), "redis://a:1 shop");
  FileStore(state.directory(), kInstanceA).exchange({});
  EXPECT_EQ(belongs.store(), "");
}

}  // namespace
}  // namespace experiment::shared
