#include "shared/money.h"

#include <cmath>
#include <cstdlib>
#include <random>
#include <string>

#include <gtest/gtest.h>

namespace experiment::shared {
namespace {

using Wide = unsigned __int128;
constexpr std::uint64_t kMost = (std::uint64_t{1} << 53) - 1;

TEST(ParseAmount, ReadsDecimals) {
  EXPECT_EQ(parse_amount("19.99", 2), 1999u);
  EXPECT_EQ(parse_amount("0", 2), 0u);
  EXPECT_EQ(parse_amount("0.0", 2), 0u);
  EXPECT_EQ(parse_amount("5", 2), 500u);
  EXPECT_EQ(parse_amount("5", 0), 5u);
  EXPECT_EQ(parse_amount("5.1", 0), 5u);
  EXPECT_EQ(parse_amount("0.001", 3), 1u);
  EXPECT_EQ(parse_amount("007.5", 2), 750u);
  EXPECT_EQ(parse_amount("1.000000001", 9), 1'000'000'001u);
}

TEST(ParseAmount, RoundsHalfToEven) {
  EXPECT_EQ(parse_amount("0.005", 2), 0u);
  EXPECT_EQ(parse_amount("0.015", 2), 2u);
  EXPECT_EQ(parse_amount("0.025", 2), 2u);
  EXPECT_EQ(parse_amount("0.035", 2), 4u);
  EXPECT_EQ(parse_amount("0.0250000000000000000001", 2), 3u);
  EXPECT_EQ(parse_amount("0.0249999999999999999999", 2), 2u);
  EXPECT_EQ(parse_amount("0.5", 0), 0u);
  EXPECT_EQ(parse_amount("1.5", 0), 2u);
  EXPECT_EQ(parse_amount("9.995", 2), 1000u);
}

TEST(ParseAmount, ReadsExponents) {
  EXPECT_EQ(parse_amount("1e2", 2), 10000u);
  EXPECT_EQ(parse_amount("1E+2", 0), 100u);
  EXPECT_EQ(parse_amount("1.5E-1", 2), 15u);
  EXPECT_EQ(parse_amount("1.5e-3", 2), 0u);
  EXPECT_EQ(parse_amount("5e-3", 2), 0u) << "a half, to even";
  EXPECT_EQ(parse_amount("6e-3", 2), 1u);
  EXPECT_EQ(parse_amount("15e-3", 2), 2u);
  EXPECT_EQ(parse_amount("9e-4", 2), 0u);
  EXPECT_EQ(parse_amount("99999e-7", 2), 1u);
  EXPECT_EQ(parse_amount("0e999", 2), 0u);
  EXPECT_EQ(parse_amount("1e-999", 2), 0u);
  EXPECT_EQ(parse_amount("1e-99999999999999999999", 2), 0u);
  EXPECT_EQ(parse_amount("0.00000000000000000001e22", 2), 10000u);
  EXPECT_EQ(parse_amount("100000000000000000000e-20", 2), 100u);
}

TEST(ParseAmount, WhatIsTooMuchIsTheMost) {
  EXPECT_EQ(parse_amount("9007199254740991", 0), kMost);
  EXPECT_EQ(parse_amount("9007199254740990", 0), kMost - 1);
  EXPECT_EQ(parse_amount("9007199254740990.5", 0), kMost - 1) << "a half, to even";
  EXPECT_EQ(parse_amount("9007199254740990.6", 0), kMost);
  EXPECT_EQ(parse_amount("9007199254740991.9", 0), kMost);
  EXPECT_EQ(parse_amount("9007199254740992", 0), kMost);
  EXPECT_EQ(parse_amount("90071992547409.91", 2), kMost);
  EXPECT_EQ(parse_amount("18446744073709551617", 0), kMost) << "2^64 + 1 does not wrap";
  EXPECT_EQ(parse_amount(std::string(64, '9'), 9), kMost);
  EXPECT_EQ(parse_amount("1e999", 2), kMost);
  EXPECT_EQ(parse_amount("1e99999999999999999999", 2), kMost);
}

TEST(ParseAmount, RefusesWhatIsNoAmount) {
  for (const char* text : {"",         ".",     ".5",   "5.",    "+1",    "-0",   "-1",   "nan",  "NaN",   "inf",
                           "Infinity", "1,5",   "1 ",   " 1",    "1e",    "e1",   "1e+",  "1e-",  "1e1.5", "1e1e1",
                           "0x10",     "1_000", "1..5", "1.5.5", "1.e5",  "1.5€", "$5",   "1e 5", "--1",   "1-",
                           "५",        "1\t",   "1\n",  "1e++1", "1E-+1", "..",   "0.-1", "1.+5", "1e5 ",  "1f"}) {
    EXPECT_FALSE(parse_amount(text, 2)) << text;
  }
  EXPECT_FALSE(parse_amount(std::string_view("1\0", 2), 2));
  EXPECT_FALSE(parse_amount(std::string(65, '1'), 2)) << "longer than any amount";
  EXPECT_FALSE(parse_amount(std::string(1 << 20, '9'), 2));
}

// Against whole-number arithmetic: mantissa * 10^(exponent + scale - decimals), halves to even.
TEST(ParseAmount, AgreesWithExactArithmetic) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 200'000; ++i) {
    std::uint64_t mantissa = random() >> (random() % 60 + 4);
    if (random() % 4 == 0) mantissa = mantissa / 10 * 10 + 5;
    const int decimals = static_cast<int>(random() % 8);
    const int exponent = static_cast<int>(random() % 13) - 6;
    const int scale = static_cast<int>(random() % 10);
    std::string text = std::to_string(mantissa);
    if (decimals > 0) {
      if (text.size() <= static_cast<std::size_t>(decimals)) text.insert(0, decimals + 1 - text.size(), '0');
      text.insert(text.size() - static_cast<std::size_t>(decimals), ".");
    }
    if (exponent != 0 || random() % 5 == 0) text += (random() % 2 ? "e" : "E") + std::to_string(exponent);

    Wide value = mantissa;
    int power = exponent + scale - decimals;
    Wide divisor = 1;
    for (; power > 0 && value < (Wide{1} << 100); --power) value *= 10;
    for (; power < 0; ++power) divisor *= 10;
    const Wide twice = value % divisor * 2;
    Wide rounded = value / divisor;
    if (twice > divisor || (twice == divisor && rounded % 2 == 1)) ++rounded;
    const std::uint64_t expected = rounded > kMost ? kMost : static_cast<std::uint64_t>(rounded);
    ASSERT_EQ(parse_amount(text, scale), expected) << text << " scale " << scale;
  }
}

TEST(ParseAmount, SurvivesAnyBytes) {
  std::mt19937_64 random(6);
  const std::string alphabet = "0123456789..eE+-  ,\"nN";
  int taken = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string text(random() % 12, ' ');
    for (char& c : text) c = random() % 50 == 0 ? static_cast<char>(random()) : alphabet[random() % alphabet.size()];
    if (const auto amount = parse_amount(text, static_cast<int>(random() % 10))) {
      ASSERT_LE(*amount, kMost) << text;
      ASSERT_EQ(text.find_first_not_of("0123456789.eE+-"), std::string::npos) << text;
      char* end = nullptr;
      std::strtod(text.c_str(), &end);
      ASSERT_EQ(*end, '\0') << text << ": C reads it whole, too";
      ++taken;
    }
  }
  EXPECT_GT(taken, 1000);
}

TEST(SquareSteps, IsExactAtTheEnds) {
  EXPECT_EQ(square_steps(0, 0, 500), 0u);
  EXPECT_EQ(square_steps(0, 500, 500), 100'000'000u);
  EXPECT_EQ(square_steps(0, kMost, kMost), 100'000'000u);
  EXPECT_EQ(square_steps(kMost - 1, 1, kMost), 0u);
  EXPECT_EQ(square_steps(0, 1, 1), 100'000'000u);
  EXPECT_EQ(square_steps(0, 250, 500), 25'000'000u);
  EXPECT_EQ(square_steps(250, 250, 500), 75'000'000u);
}

TEST(SquareSteps, IsTheNearestWholeStep) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t max = 1 + (random() & 0xffffffff) % (1u << (1 + random() % 31));
    const std::uint64_t s = random() % (max + 1), x = random() % (max - s + 1);
    const Wide square = Wide{x} * (2 * Wide{s} + x);  // below 2^66
    const Wide whole = Wide{max} * max;
    const Wide scaled = square * 100'000'000;
    const auto nearest = static_cast<std::uint64_t>((scaled + whole / 2) / whole);
    const std::uint64_t steps = square_steps(s, x, max);
    ASSERT_LE(steps > nearest ? steps - nearest : nearest - steps, scaled * 2 % whole == 0 ? 1u : 0u)
        << s << " + " << x << " of " << max;
  }
}

TEST(SquareSteps, OrdersSumUpToTheSquareOfTheirTotal) {
  std::mt19937_64 random(8);
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t max = 1 + random() % 1'000'000'000;
    std::uint64_t sum = 0, steps = 0;
    int orders = 0;
    while (orders < 20 && sum < max) {
      const std::uint64_t x = std::min<std::uint64_t>(max - sum, random() % (max / 5 + 1));
      steps += square_steps(sum, x, max);
      sum += x;
      ++orders;
    }
    const std::uint64_t whole = square_steps(0, sum, max);
    ASSERT_LE(steps > whole ? steps - whole : whole - steps, static_cast<std::uint64_t>(orders)) << max;
  }
}

}  // namespace
}  // namespace experiment::shared
