// What every Store promises: a typed suite that each implementation runs.
//
// A Backend gives: `open(instance)` a new Store object onto the same data; `publish(text)` as an editor or a pipeline
// would do it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "shared/store.h"

namespace experiment::shared {

inline const std::string kInstanceA(22, 'A');
inline const std::string kInstanceB(22, 'B');

inline Runtime runtime_with_kill(const std::string& key, const std::string& reason) {
  Runtime runtime;
  runtime.experiments[key].kills.push_back({"", reason, "experimentctl", 1'700'000'000});
  return runtime;
}

inline Exchange offer_runtime(std::uint64_t known, Runtime runtime) {
  Exchange wants;
  wants.known_runtime = known;
  wants.runtime = std::move(runtime);
  return wants;
}

inline Exchange offer_counters(Counters counters) {
  Exchange wants;
  wants.counters = std::move(counters);
  return wants;
}

template <typename Backend>
class StoreContract : public ::testing::Test {
 protected:
  std::unique_ptr<Store> open(const std::string& instance = {}) { return backend_.open(instance); }
  Backend backend_;
};
TYPED_TEST_SUITE_P(StoreContract);

TYPED_TEST_P(StoreContract, AFreshStoreHasNothing) {
  auto store = this->open();
  const Answer answer = store->exchange({});
  EXPECT_FALSE(answer.document);
  EXPECT_FALSE(answer.runtime);
  EXPECT_FALSE(answer.runtime_unreadable);
  EXPECT_FALSE(store->last_good());
}

TYPED_TEST_P(StoreContract, EveryNewContentGetsAHigherVersionThatAllSee) {
  auto one = this->open(), two = this->open();
  Exchange wants;
  std::uint64_t last = 0;
  for (const char* text : {"{\"a\":1}", "{\"b\":1}", "{\"a\":1}", "{ half"}) {
    this->backend_.publish(text);
    wants.known_document = last;
    const Answer first = one->exchange(wants), second = two->exchange(wants);
    ASSERT_TRUE(first.document && second.document) << text;
    EXPECT_GT(first.document->version, last);
    EXPECT_EQ(first.document->version, second.document->version);
    EXPECT_EQ(first.document->text, text);
    EXPECT_EQ(second.document->text, text);
    last = first.document->version;
    wants.known_document = last;
    EXPECT_FALSE(one->exchange(wants).document) << "handed out again without a change";
  }
  EXPECT_EQ(this->open()->exchange({}).document->version, last);
}

TYPED_TEST_P(StoreContract, TheLastGoodDocumentSurvivesABadOne) {
  this->backend_.publish("good");
  auto store = this->open();
  Exchange wants;
  wants.known_document = store->exchange({}).document->version;
  wants.good_document = "good";
  EXPECT_TRUE(store->exchange(wants).errors.empty());
  this->backend_.publish("bad");
  store->exchange({});
  const auto kept = this->open()->last_good();
  ASSERT_TRUE(kept);
  EXPECT_EQ(kept->text, "good");
  EXPECT_EQ(kept->version, wants.known_document);
  // An older one that comes late does not replace it.
  wants.known_document -= 1;
  wants.good_document = "older";
  store->exchange(wants);
  EXPECT_EQ(this->open()->last_good()->text, "good");
}

TYPED_TEST_P(StoreContract, RuntimeIsWrittenByCompareAndSet) {
  auto one = this->open(), two = this->open();
  EXPECT_TRUE(one->exchange(offer_runtime(0, runtime_with_kill("a", "first"))).runtime_written);
  const Answer late = two->exchange(offer_runtime(0, runtime_with_kill("b", "late")));
  EXPECT_FALSE(late.runtime_written);
  EXPECT_TRUE(late.runtime_conflict);
  ASSERT_TRUE(late.runtime);
  EXPECT_EQ(late.runtime->version, 1u);
  EXPECT_EQ(late.runtime->experiments.at("a").kills.at(0).reason, "first");
  Runtime rebased = *late.runtime;
  rebased.experiments["b"].kills.push_back({"green", "late", "experimentctl", 1});
  EXPECT_TRUE(two->exchange(offer_runtime(1, rebased)).runtime_written);
  Exchange knows_one;
  knows_one.known_runtime = 1;
  const Answer seen = one->exchange(knows_one);
  ASSERT_TRUE(seen.runtime);
  EXPECT_EQ(seen.runtime->version, 2u);
  EXPECT_EQ(seen.runtime->experiments.at("b").kills.at(0).variant, "green");
  Exchange knows_two;
  knows_two.known_runtime = 2;
  EXPECT_FALSE(one->exchange(knows_two).runtime);
}

TYPED_TEST_P(StoreContract, CountersOfAnInstanceMergeByMax) {
  auto store = this->open(kInstanceA);
  const CounterKey old_epoch{"a", 1, 7}, epoch{"a", 1, 8};
  EXPECT_TRUE(store->exchange(offer_counters({{old_epoch, {5, 1}}, {epoch, {3, 9}}})).counters_written);
  store.reset();
  store = this->open(kInstanceA);  // after a restart of its leader, the zone having dropped the old epoch
  EXPECT_TRUE(store->exchange(offer_counters({{epoch, {4, 2, 1}}})).counters_written);
  const Answer all = this->open()->exchange({});
  ASSERT_TRUE(all.others);
  EXPECT_EQ(*all.others, (Counters{{old_epoch, {5, 1}}, {epoch, {4, 9, 1}}}));
}

TYPED_TEST_P(StoreContract, OthersAreSummedWithoutTheCaller) {
  auto a = this->open(kInstanceA), b = this->open(kInstanceB);
  const CounterKey key{"a", 1, 7};
  EXPECT_TRUE(a->exchange(offer_counters({{key, {5, 1}}})).counters_written);
  EXPECT_TRUE(b->exchange(offer_counters({{key, {10, 2, 3}}})).counters_written);
  Answer seen = a->exchange({});
  ASSERT_TRUE(seen.others);
  EXPECT_EQ(*seen.others, (Counters{{key, {10, 2, 3}}}));
  EXPECT_EQ(*this->open()->exchange({}).others, (Counters{{key, {15, 3, 3}}}));
  Exchange wants;
  wants.known_others = seen.others_mark;
  EXPECT_FALSE(a->exchange(wants).others) << "nothing changed";
  EXPECT_TRUE(b->exchange(offer_counters({{key, {11, 2, 3}}})).counters_written);
  EXPECT_TRUE(a->exchange(wants).others);
}

TYPED_TEST_P(StoreContract, PublishingIsCompareAndSet) {
  auto one = this->open(), two = this->open();
  const Published first = one->publish({"{\"a\":1}", 0, "ana", 1'700'000'001});
  EXPECT_EQ(first.error, "");
  EXPECT_TRUE(first.written);
  EXPECT_FALSE(first.conflict);
  const Answer seen = two->exchange({});
  ASSERT_TRUE(seen.document);
  EXPECT_EQ(seen.document->version, first.version);
  EXPECT_EQ(seen.document->text, "{\"a\":1}");
  const Published late = two->publish({"{\"b\":1}", 0, "bob", 1'700'000'002});
  EXPECT_FALSE(late.written);
  EXPECT_TRUE(late.conflict);
  EXPECT_EQ(late.version, first.version) << "what stands";
  EXPECT_EQ(this->open()->exchange({}).document->text, "{\"a\":1}");
  const Published second = two->publish({"{\"b\":1}", late.version, "bob", 1'700'000'002});
  EXPECT_TRUE(second.written);
  EXPECT_GT(second.version, first.version);
  const Published third = one->publish({"{\"c\":1}", std::nullopt, "ana", 1'700'000'003});
  EXPECT_TRUE(third.written) << "whatever stands there";
  EXPECT_GT(third.version, second.version);
  Exchange wants;
  wants.known_document = third.version;
  EXPECT_FALSE(one->exchange(wants).document);
  wants.known_document = second.version;
  EXPECT_EQ(two->exchange(wants).document->text, "{\"c\":1}");
}

TYPED_TEST_P(StoreContract, DocumentsThatWereReplacedAreKept) {
  auto store = this->open();
  std::string error = "as it was";
  EXPECT_TRUE(store->history(error).empty());
  EXPECT_EQ(error, "");
  const auto first = store->publish({"one", std::nullopt, "ana", 1'700'000'001}).version;
  const auto second = store->publish({"two", std::nullopt, "bob", 1'700'000'002}).version;
  const auto history = this->open()->history(error);
  EXPECT_EQ(error, "");
  ASSERT_EQ(history.size(), 2u);
  EXPECT_EQ(history[0].version, second);
  EXPECT_EQ(history[0].text, "two");
  EXPECT_EQ(history[0].by, "bob");
  EXPECT_EQ(history[0].at_s, 1'700'000'002);
  EXPECT_EQ(history[1].version, first);
  EXPECT_EQ(history[1].text, "one");
  EXPECT_EQ(history[1].by, "ana");
}

TYPED_TEST_P(StoreContract, WhatPeopleDidIsRecorded) {
  auto store = this->open();
  std::string error = "as it was";
  EXPECT_TRUE(store->audit(10, error).empty());
  EXPECT_EQ(error, "");
  for (int i = 1; i <= 3; ++i) {
    store->record({1'700'000'000 + i, "ana", "kill", "hero/green", "slow \"pages\"\n", std::to_string(i)}, error);
    EXPECT_EQ(error, "");
  }
  const auto newest = this->open()->audit(2, error);
  EXPECT_EQ(error, "");
  ASSERT_EQ(newest.size(), 2u);
  EXPECT_EQ(newest[0].detail, "3");
  EXPECT_EQ(newest[1].detail, "2");
  EXPECT_EQ(newest[0].at_s, 1'700'000'003);
  EXPECT_EQ(newest[0].by, "ana");
  EXPECT_EQ(newest[0].verb, "kill");
  EXPECT_EQ(newest[0].target, "hero/green");
  EXPECT_EQ(newest[0].reason, "slow \"pages\"\n");
}

TYPED_TEST_P(StoreContract, EdgesSayWhatTheyDo) {
  auto a = this->open(kInstanceA), b = this->open(kInstanceB);
  std::string error = "as it was";
  EXPECT_TRUE(this->open()->edges(error).empty());
  EXPECT_EQ(error, "");
  Exchange wants;
  wants.report = "{\"document\":1}";
  a->exchange(wants);
  wants.report = "{\"document\":2}";
  b->exchange(wants);
  wants.report = "{\"document\":3}";
  a->exchange(wants);
  auto reports = this->open()->edges(error);
  EXPECT_EQ(error, "");
  ASSERT_EQ(reports.size(), 2u);
  if (reports[0].instance != kInstanceA) std::swap(reports[0], reports[1]);
  EXPECT_EQ(reports[0].instance, kInstanceA);
  EXPECT_EQ(reports[0].text, "{\"document\":3}");
  EXPECT_EQ(reports[1].text, "{\"document\":2}");
  EXPECT_LT(reports[0].age_s, 10);
}

REGISTER_TYPED_TEST_SUITE_P(StoreContract, AFreshStoreHasNothing, EveryNewContentGetsAHigherVersionThatAllSee,
                            TheLastGoodDocumentSurvivesABadOne, RuntimeIsWrittenByCompareAndSet,
                            CountersOfAnInstanceMergeByMax, OthersAreSummedWithoutTheCaller, PublishingIsCompareAndSet,
                            DocumentsThatWereReplacedAreKept, WhatPeopleDidIsRecorded, EdgesSayWhatTheyDo);

}  // namespace experiment::shared
