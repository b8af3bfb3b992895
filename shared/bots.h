// Which user agents are programs that read pages on nobody's behalf. A short list of words, on purpose: operators add
// their own by `experiment_exposure` with a map.
#pragma once

#include <string_view>

namespace experiment::shared {

// Case-insensitive; an absent user agent is no bot (backends and apps send none).
bool is_bot(std::string_view user_agent) noexcept;

}  // namespace experiment::shared
