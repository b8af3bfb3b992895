// JSON text to values, stricter than the library's own reader: one document and nothing else, no byte order mark, every
// member of an object once, valid UTF-8, bounded in bytes, depth and number of values, so that no text of the permitted
// size costs more than some 100 MB for the moment of reading it.
//
// Called by definition_json wherever a document is read (the leader's thread, workers, tools). Stateless, no locking.
#pragma once

#include <cstddef>
#include <string_view>

#include <nlohmann/json.hpp>

namespace experiment::shared {

inline constexpr std::size_t kMaxDocumentBytes = 4 * 1024 * 1024;
inline constexpr std::size_t kMaxJsonDepth = 32;        // open arrays and objects
inline constexpr std::size_t kMaxJsonValues = 500'000;  // 5,000 experiments of 100 values

// Throws Refusal with line and column (from 1, in characters) where the text is not JSON, with a JSON pointer where it
// breaks one of the limits above.
nlohmann::json parse_strict_json(std::string_view text);

}  // namespace experiment::shared
