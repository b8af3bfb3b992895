// A document's text with another desired state of one experiment; order and members that nobody knows stay.
//
// Pure.
#pragma once

#include <optional>
#include <string>

namespace experiment::ctl {

struct DesiredEdit {
  std::string desired;  // "running", ...
  // Where it is concluded; a holdback that is not given is taken out.
  std::string winner;
  std::optional<double> holdback;
};

// The same text where nothing is to be changed. Returns nullopt: it has no such experiment. Requires: parse_document()
// accepts the text.
std::optional<std::string> edit_document(const std::string& text, const std::string& key, const DesiredEdit& edit);

}  // namespace experiment::ctl
