#include "shared/definition_features.h"

#include <optional>

namespace experiment::shared {
namespace {

constexpr std::size_t kMaxListed = 100;  // guardrails, prerequisites, steps of one experiment

// Two digits at `at` as a number, -1 where they are not digits.
int two_digits(std::string_view text, std::size_t at) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (at + 2 > text.size() || !is_digit(text[at]) || !is_digit(text[at + 1])) return -1;
  return (text[at] - '0') * 10 + (text[at + 1] - '0');
}

bool is_between(int value, int least, int most) {
  return value >= least && value <= most;
}

// RFC 3339 section 5.6 with capital T and Z and without fractions: 2026-12-01T00:00:00Z, 2026-12-01T00:00:00+01:00.
// Days are checked up to 31, as in the schema.
bool is_time(std::string_view text) {
  if (text.size() != 20 && text.size() != 25) return false;
  if (text[4] != '-' || text[7] != '-' || text[10] != 'T' || text[13] != ':' || text[16] != ':') return false;
  const bool in_range = two_digits(text, 0) >= 0 && two_digits(text, 2) >= 0 &&
                        is_between(two_digits(text, 5), 1, 12) && is_between(two_digits(text, 8), 1, 31) &&
                        is_between(two_digits(text, 11), 0, 23) && is_between(two_digits(text, 14), 0, 59) &&
                        is_between(two_digits(text, 17), 0, 60);
  if (!in_range) return false;
  if (text.size() == 20) return text[19] == 'Z';
  return (text[19] == '+' || text[19] == '-') && text[22] == ':' && is_between(two_digits(text, 20), 0, 23) &&
         is_between(two_digits(text, 23), 0, 59);
}

void check_time(const Node& node) {
  constexpr std::string_view kExpected = "a time like 2026-12-01T00:00:00Z";
  if (!is_time(node.string(kExpected))) node.refuse(std::string(kExpected));
}

void check_word(const Node& node, std::string_view expected) {
  if (node.string(expected).empty()) node.refuse(std::string(expected));
}

void check_objects(const Node& node, std::string_view expected) {
  node.check_array(0, kMaxListed, expected);
  for (std::size_t i = 0; i < node.size(); ++i) node.at(i).check_object("an object");
}

void check_guardrails(const Node& node) {
  check_objects(node, "an array of at most 100 guardrails");
  for (std::size_t i = 0; i < node.size(); ++i) {
    const Node guardrail = node.at(i);
    check_word(guardrail.require("metric", "the name of a metric"), "the name of a metric");
    if (const auto action = guardrail.find("action")) check_word(*action, "the name of an action");
  }
}

void check_rollout(const Node& node) {
  node.check_array(1, kMaxListed, "an array of 1 to 100 steps");
  for (std::size_t i = 0; i < node.size(); ++i) {
    const Node step = node.at(i);
    step.check_object("a step (an object)");
    step.require("traffic", "a number from 0 to 1").share();
    const auto duration = step.find("for");
    if (duration && !parse_duration(duration->string("a duration like 10m"))) duration->refuse("a duration like 10m");
  }
}

// Calls `check` on the member and marks its feature, unless the member is absent or an empty list or object, which asks
// for nothing.
template <typename Check>
void read_feature(const Node& node, std::string_view member, std::string_view feature, bandit::Experiment& experiment,
                  Warnings& warnings, Check check) {
  const auto found = node.find(member);
  if (!found) return;
  check(*found);
  if (found->value().is_structured() && found->value().empty()) return;
  mark_not_in_build(*found, feature, experiment, warnings);
}

}  // namespace

void mark_not_in_build(const Node& place, std::string_view feature, bandit::Experiment& experiment,
                       Warnings& warnings) {
  if (experiment.not_in_build.empty()) experiment.not_in_build = feature;
  warnings.add("at " + place.path() + ": not in this build (" + std::string(feature) + "); experiment \"" +
               experiment.key + "\" is off");
}

void read_missing_features(const Node& node, bandit::Experiment& experiment, Warnings& warnings) {
  const auto read = [&](std::string_view member, std::string_view feature, auto check) {
    read_feature(node, member, feature, experiment, warnings, check);
  };
  read("targeting", "targeting", [](const Node& n) { n.check_object("an object of conditions"); });
  read("prerequisites", "prerequisites", [](const Node& n) { check_objects(n, "an array of at most 100 objects"); });
  read("guardrails", "guardrails that act", check_guardrails);
  read("rollout", "rollout", check_rollout);
  read("starts", "starts", check_time);
  read("ends", "ends", check_time);
  read("at_end", "at_end", [](const Node& n) { check_word(n, "what happens at the end, like \"stop\""); });
  read("hash", "hash", [](const Node& n) { check_word(n, "the name of an assignment function"); });
}

void check_segments(const Node& segments) {
  segments.check_object("an object of segments");
  for (const auto& [name, value] : segments.value().items()) {
    if (const auto segment = segments.find(name); !value.is_object()) segment->refuse("a segment (an object)");
  }
}

}  // namespace experiment::shared
