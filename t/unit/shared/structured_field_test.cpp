#include "shared/structured_field.h"

#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace experiment::shared {
namespace {

struct Member {
  std::string key, value, id;
};
bool operator==(const Member& a, const Member& b) {
  return a.key == b.key && a.value == b.value && a.id == b.id;
}
std::ostream& operator<<(std::ostream& out, const Member& m) {
  return out << m.key << "=" << m.value << ";id=" << m.id;
}

using Members = std::vector<Member>;

Members read(std::string_view text) {
  Members members;
  DictionaryReader reader(text);
  while (const auto member = reader.next()) {
    members.push_back({std::string(member->key), std::string(member->value), std::string(member->id)});
  }
  EXPECT_FALSE(reader.next()) << "the end is the end";
  return members;
}

TEST(DictionaryReader, ReadsWhatBackendsSend) {
  EXPECT_EQ(read(R"(purchase, revenue=19.99;id="o-123")"),
            (Members{{"purchase", "", ""}, {"revenue", "19.99", "o-123"}}));
  EXPECT_EQ(read("lead"), (Members{{"lead", "", ""}}));
  EXPECT_EQ(read(R"(a="1.50";id=tok/en:1)"), (Members{{"a", "1.50", "tok/en:1"}}));
  EXPECT_EQ(read("a=?1,b=-2"), (Members{{"a", "?1", ""}, {"b", "-2", ""}}));
  EXPECT_EQ(read(R"(a;id="x")"), (Members{{"a", "", "x"}})) << "a bare key has parameters, too";
  EXPECT_EQ(read("*k_1-2.z=1"), (Members{{"*k_1-2.z", "1", ""}}));
}

TEST(DictionaryReader, SkipsBlanksWhereTheyMayStand) {
  EXPECT_EQ(read("  a=1 \t,\t b=2  "), (Members{{"a", "1", ""}, {"b", "2", ""}}));
  EXPECT_EQ(read(R"(a=1;  id="x";y,b)"), (Members{{"a", "1", "x"}, {"b", "", ""}}));
  EXPECT_EQ(read(""), Members{});
  EXPECT_EQ(read(" \t "), Members{});
}

TEST(DictionaryReader, OtherParametersAreNotTheId) {
  EXPECT_EQ(read(R"(a=1;currency=EUR;id="x";ide="y";final)"), (Members{{"a", "1", "x"}}));
  EXPECT_EQ(read(R"(a=1;id)"), (Members{{"a", "1", ""}}));
}

TEST(DictionaryReader, StringsHoldAnythingButTheirEnd) {
  EXPECT_EQ(read(R"(a=1;id="x, y;id=\"z\"", b)"), (Members{{"a", "1", R"(x, y;id=\"z\")"}, {"b", "", ""}}));
  EXPECT_EQ(read(R"(a="\\",b)"), (Members{{"a", R"(\\)", ""}, {"b", "", ""}}));
  EXPECT_EQ(read(R"(a="")"), (Members{{"a", "", ""}}));
}

TEST(DictionaryReader, StopsAtTheFirstPlaceThatIsNoDictionary) {
  EXPECT_EQ(read("a=1, b=(1 2), c=3"), (Members{{"a", "1", ""}})) << "an inner list";
  EXPECT_EQ(read("a=1 b=2, c=3"), Members{}) << "two members without a comma";
  EXPECT_EQ(read(R"(a, b="open, c)"), (Members{{"a", "", ""}}));
  EXPECT_EQ(read(R"(a, b="open\")"), (Members{{"a", "", ""}}));
  EXPECT_EQ(read(R"(a, b="open\)"), (Members{{"a", "", ""}}));
  EXPECT_EQ(read("a, b=, c"), (Members{{"a", "", ""}}));
  EXPECT_EQ(read("a, ,b"), (Members{{"a", "", ""}}));
  EXPECT_EQ(read("a,,b"), (Members{{"a", "", ""}}));
  EXPECT_EQ(read(",a"), Members{});
  EXPECT_EQ(read("A=1"), Members{}) << "keys are in lower case";
  EXPECT_EQ(read("1=2"), Members{});
  EXPECT_EQ(read("a;=1"), Members{});
  EXPECT_EQ(read("a=1;id=(x)"), Members{});
  EXPECT_EQ(read("<html>"), Members{});
  EXPECT_EQ(read(std::string_view("\0a", 2)), Members{});
  EXPECT_EQ(read("a=\x7f"), Members{});
}

TEST(DictionaryReader, ReadsTenKilobytesInOnePass) {
  std::string text;
  for (int i = 0; i < 700; ++i) text += (i == 0 ? "" : ", ") + ("k" + std::to_string(i)) + "=1;id=\"x\"";
  ASSERT_GT(text.size(), 10'000u);
  EXPECT_EQ(read(text).size(), 700u);
  EXPECT_TRUE(read(std::string(10'240, '"')).empty());
  EXPECT_TRUE(read("a=\"" + std::string(10'240, '\\')).empty());
  EXPECT_EQ(read(std::string(10'240, 'a')).size(), 1u);
  EXPECT_TRUE(read(std::string(10'240, ',')).empty());
}

// Views lie in the text, members come in its order, and no input is read twice.
TEST(DictionaryReader, SurvivesAnyBytes) {
  std::mt19937_64 random(4);
  const std::string alphabet = "abid=;,\"\\ \t()?:*1.";
  for (int i = 0; i < 100'000; ++i) {
    std::string text(random() % 40, ' ');
    for (char& c : text) c = random() % 40 == 0 ? static_cast<char>(random()) : alphabet[random() % alphabet.size()];
    DictionaryReader reader(text);
    const char* last = text.data();
    while (const auto member = reader.next()) {
      ASSERT_FALSE(member->key.empty());
      ASSERT_GE(member->key.data(), last) << text;
      last = member->key.data() + member->key.size();
      ASSERT_LE(last, text.data() + text.size());
      for (const auto part : {member->value, member->id}) {
        if (part.empty()) continue;
        ASSERT_GE(part.data(), last) << text;
        ASSERT_LE(part.data() + part.size(), text.data() + text.size()) << text;
      }
    }
    ASSERT_FALSE(reader.next()) << text;
  }
}

}  // namespace
}  // namespace experiment::shared
