#include "shared/definition_key.h"

#include <random>
#include <regex>
#include <string>

#include <gtest/gtest.h>

namespace experiment::shared {
namespace {

TEST(DefinitionKey, HasOneForm) {
  for (const char* key : {"a", "z9", "hero", "checkout-button", "a-1", "a-b-c-d", "offer", "all-in", "nones"}) {
    EXPECT_TRUE(is_key(key)) << key;
  }
  for (const char* text : {"",   "-",  "-a",  "a-", "a--b", "A", "aB",  "1",   "1a",  "a_b", "a.b", "a b",
                           " a", "a ", "a/b", "a*", "*",    "ä", "a\n", "a~b", "off", "all", "none"}) {
    EXPECT_FALSE(is_key(text)) << text;
  }
  EXPECT_FALSE(is_key(std::string_view("a\0b", 3)));
  EXPECT_TRUE(is_key(std::string(40, 'a')));
  EXPECT_FALSE(is_key(std::string(41, 'a')));
}

TEST(DefinitionKey, AgreesWithItsPattern) {
  const std::regex pattern("[a-z][a-z0-9]*(-[a-z0-9]+)*");
  std::mt19937 random(3);
  const std::string alphabet = "az09--_A";
  int keys = 0;
  for (int i = 0; i < 50'000; ++i) {
    std::string text(random() % 7, 'a');
    for (char& c : text) c = alphabet[random() % alphabet.size()];
    const bool expected = std::regex_match(text, pattern);
    ASSERT_EQ(is_key(text), expected) << text;
    keys += expected;
  }
  EXPECT_GT(keys, 1000);
}

}  // namespace
}  // namespace experiment::shared
