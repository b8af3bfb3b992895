#include "shared/assignment_cookie.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "bandit/assignment.h"

namespace experiment::shared {
namespace {

using nlohmann::json;

const json& vectors() {
  static const json data = json::parse(std::ifstream("t/vectors/cookie.json"));
  return data;
}

KeyRing ring_of(const std::string& text) {
  std::string error;
  auto ring = KeyRing::parse(text, error);
  if (!ring) throw std::runtime_error(error);
  return *ring;
}
std::string key(std::size_t i) {
  return vectors()["ring"][i].get<std::string>() + "\n";
}
const KeyRing& vector_ring() {
  static const KeyRing ring = ring_of(key(0) + key(1));
  return ring;
}

json to_json(const CookieRecords& records) {
  json out = json::array();
  for (std::size_t i = 0; i < records.count; ++i) {
    const CookieRecord& r = records.items[i];
    json record = {{"experiment", r.experiment},
                   {"unit_tag", r.unit_tag},
                   {"arm", r.arm},
                   {"baseline", r.baseline},
                   {"epoch", r.epoch},
                   {"first_exposure_10min", r.first_exposure_10min},
                   {"marks", r.marks}};
    if (r.has_sum) record["sum"] = r.sum;
    out.push_back(record);
  }
  return out;
}

CookieRecords from_json(const json& records) {
  CookieRecords out;
  for (const json& r : records) {
    CookieRecord& record = out.items.at(out.count++);
    record.experiment = r["experiment"];
    record.unit_tag = r["unit_tag"];
    record.arm = r["arm"];
    record.baseline = r["baseline"];
    record.has_sum = r.contains("sum");
    record.epoch = r["epoch"];
    record.first_exposure_10min = r["first_exposure_10min"];
    record.marks = r["marks"];
    record.sum = r.value("sum", 0u);
  }
  return out;
}

std::string encoded(const CookieRecords& records, const KeyRing& ring = vector_ring()) {
  char text[kMaxCookieChars];
  return {text, encode(records, ring, text)};
}

const json& vector_named(const std::string& name) {
  for (const json& vector : vectors()["cookies"]) {
    if (vector["name"] == name) return vector;
  }
  throw std::out_of_range(name);
}

// Decodes into records that already hold something, which a refusal must not leave behind.
CookieStatus status_of(std::string_view text, const KeyRing& ring = vector_ring()) {
  CookieRecords records;
  records.count = 3;
  const CookieStatus status = decode(text, ring, records);
  if (status != CookieStatus::kOk) {
    EXPECT_EQ(records.count, 0) << text;
  }
  return status;
}

TEST(AssignmentCookie, EncodesAndDecodesTheVectors) {
  ASSERT_EQ(vectors()["cookies"].size(), 11u);
  for (const json& vector : vectors()["cookies"]) {
    const std::string text = vector["text"];
    EXPECT_EQ(encoded(from_json(vector["records"])), text) << vector["name"];
    CookieRecords records;
    ASSERT_EQ(decode(text, vector_ring(), records), CookieStatus::kOk) << vector["name"];
    EXPECT_EQ(to_json(records), vector["records"]) << vector["name"];
  }
}

TEST(AssignmentCookie, RefusesTheBadVectorsForTheReasonGiven) {
  ASSERT_EQ(vectors()["bad"].size(), 16u);
  for (const json& vector : vectors()["bad"]) {
    EXPECT_EQ(cookie_status_token(status_of(vector["text"].get<std::string>())), vector["status"]) << vector["name"];
  }
}

TEST(AssignmentCookie, OfTwoRecordsOfOneExperimentAndUnitTheFirstCounts) {
  const json& vector = vectors()["duplicates"];
  CookieRecords records;
  ASSERT_EQ(decode(vector["text"].get<std::string>(), vector_ring(), records), CookieStatus::kOk);
  EXPECT_EQ(to_json(records), vector["records"]);
}

TEST(AssignmentCookie, EveryBitFlipIsRefused) {
  for (const char* name : {"no records", "five records", "eighteen records, all with sums"}) {
    std::string text = vector_named(name)["text"];
    for (std::size_t bit = 0; bit < 8 * text.size(); ++bit) {
      const char flip = static_cast<char>(1 << bit % 8);
      text[bit / 8] = static_cast<char>(text[bit / 8] ^ flip);
      EXPECT_NE(status_of(text), CookieStatus::kOk) << name << " bit " << bit;
      text[bit / 8] = static_cast<char>(text[bit / 8] ^ flip);
    }
    EXPECT_EQ(status_of(text), CookieStatus::kOk) << "unchanged";
  }
}

TEST(AssignmentCookie, EveryTruncationAndExtensionIsRefused) {
  const std::string text = vector_named("twenty records without sums")["text"];
  for (std::size_t size = 0; size < text.size(); ++size) {
    EXPECT_NE(status_of(text.substr(0, size)), CookieStatus::kOk) << size;
    EXPECT_NE(status_of(text.substr(text.size() - size)), CookieStatus::kOk) << size;
    EXPECT_NE(status_of(text + text.substr(0, size + 1)), CookieStatus::kOk) << size;
  }
}

TEST(AssignmentCookie, KeysRotate) {
  const KeyRing both = ring_of(key(1) + key(0)), only_new = ring_of(key(1));
  const std::string old_text = vector_named("one record")["text"];
  CookieRecords records;
  ASSERT_EQ(decode(old_text, both, records), CookieStatus::kOk) << "the old key still verifies";
  const std::string new_text = encoded(records, both);
  EXPECT_EQ(new_text, vectors()["rotated"]["text"]) << "the new key signs";
  EXPECT_EQ(status_of(new_text, only_new), CookieStatus::kOk);
  EXPECT_EQ(status_of(new_text, vector_ring()), CookieStatus::kOk) << "edges that sign with the old key read it too";
  EXPECT_EQ(status_of(old_text, only_new), CookieStatus::kUnknownKey);
}

TEST(AssignmentCookie, RefusesToEncodeWhatCannotBeRead) {
  const CookieRecords twenty = from_json(vector_named("twenty records, eleven with sums: as many as fit")["records"]);
  CookieRecords too_long = twenty;
  too_long.items[11].has_sum = true;
  EXPECT_EQ(encoded(too_long), "") << "514 characters";
  CookieRecords too_many = twenty;
  too_many.count = kMaxCookieRecords + 1;
  EXPECT_EQ(encoded(too_many), "");
  const CookieRecords one = from_json(vector_named("one record")["records"]);
  CookieRecords bad = one;
  bad.items[0].arm = 20;
  EXPECT_EQ(encoded(bad), "");
  bad = one;
  bad.items[0].epoch = std::uint64_t{1} << 48;
  EXPECT_EQ(encoded(bad), "");
  bad = one;
  bad.items[0].first_exposure_10min = 1u << 24;
  EXPECT_EQ(encoded(bad), "");
}

TEST(AssignmentCookie, FindsByExperimentAndUnit) {
  const json& vector = vector_named("one experiment, two units");
  CookieRecords records;
  ASSERT_EQ(decode(vector["text"].get<std::string>(), vector_ring(), records), CookieStatus::kOk);
  const CookieRecord &mine = records.items[0], &theirs = records.items[1];
  EXPECT_EQ(records.find(mine.experiment, mine.unit_tag), &mine);
  EXPECT_EQ(records.find(mine.experiment, theirs.unit_tag), &theirs);
  EXPECT_EQ(records.find(mine.experiment + 1, mine.unit_tag), nullptr);
  EXPECT_EQ(records.find(mine.experiment, static_cast<std::uint8_t>(mine.unit_tag ^ 2)), nullptr);
}

TEST(AssignmentCookie, MarksAreDistinctBits) {
  int all = kMarkExposed;
  for (int goal = 0; goal < 7; ++goal) {
    EXPECT_EQ(all & mark_of_goal(goal), 0);
    all |= mark_of_goal(goal);
  }
  EXPECT_EQ(all, 0xff);
}

TEST(AssignmentCookie, TagsAgreeWithTheVectors) {
  for (const json& v : vectors()["experiment_tags"]) {
    EXPECT_EQ(experiment_tag(v["key"].get<std::string>(), v["generation"]), v["tag"]);
  }
  const std::uint64_t seed = bandit::seed_of("", "unit_tag");
  for (const json& v : vectors()["unit_tags"]) {
    const std::uint64_t hash = bandit::unit_hash(v["unit"].get<std::string>());
    EXPECT_EQ(unit_tag(hash), v["tag"]);
    EXPECT_EQ(unit_tag(hash), bandit::draw(seed, hash) >> 56);
  }
}

}  // namespace
}  // namespace experiment::shared
