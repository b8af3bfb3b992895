// What kill and resume act on: an experiment, one of its variants, or everything.
#pragma once

#include <optional>
#include <string>

namespace experiment::ctl {

struct Target {
  bool all = false;
  std::string key, variant;  // variant empty: the whole experiment
};

// From KEY or KEY/VARIANT, or from --all without either; nullopt and why in `error` otherwise.
std::optional<Target> parse_target(const std::string& text, bool all, std::string& error);
// "everything", KEY, or KEY/VARIANT.
std::string name_of(const Target& target);
// What the audit log calls it: "*", KEY, or KEY/VARIANT.
std::string record_of(const Target& target);

}  // namespace experiment::ctl
