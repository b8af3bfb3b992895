#include "ctl/target.h"

#include "shared/definition_key.h"

namespace experiment::ctl {

std::optional<Target> parse_target(const std::string& text, bool all, std::string& error) {
  if (all != text.empty()) {
    error = all ? "both --all and " + text + ", expected one of them" : "no target, expected KEY, KEY/VARIANT or --all";
    return std::nullopt;
  }
  Target target;
  target.all = all;
  if (all) return target;
  const std::size_t slash = text.find('/');
  target.key = text.substr(0, slash);
  if (slash != std::string::npos) target.variant = text.substr(slash + 1);
  if (shared::is_key(target.key) && (slash == std::string::npos || shared::is_key(target.variant))) return target;
  error = "\"" + text + "\", expected KEY or KEY/VARIANT of lower-case letters, digits and single dashes";
  return std::nullopt;
}

std::string name_of(const Target& target) {
  if (target.all) return "everything";
  return target.variant.empty() ? target.key : target.key + "/" + target.variant;
}

std::string record_of(const Target& target) {
  return target.all ? "*" : name_of(target);
}

}  // namespace experiment::ctl
