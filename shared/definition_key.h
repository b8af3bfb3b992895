// The form of keys: of experiments, layers, variants, goals, units. They become header members, tokens and variables.
#pragma once

#include <string_view>

namespace experiment::shared {

// Whether `text` is [a-z][a-z0-9]*(-[a-z0-9]+)*, at most 40 bytes, and none of the words that placements take (off,
// all, none).
bool is_key(std::string_view text) noexcept;

}  // namespace experiment::shared
