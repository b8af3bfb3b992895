// Why a definition document was refused: the place, what stands there and what was expected.
//
// The readers (strict_json, definition_node and those built on them) stop at the first fault by throwing a Refusal,
// which definition_json catches: it never leaves shared/. Messages are plain printable ASCII whatever the document
// holds, since they end in logs and terminals. Stateless, no locking.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace experiment::shared {

struct DefinitionError {
  std::string
      path;  // JSON pointer like /experiments/3/variants/1/weight, or "line 3, column 7" where the text is not JSON
  std::string value;     // what stands there, cut at 60 bytes
  std::string expected;  // what could stand there
};

// `at /experiments/3/variants/1/weight: -1, expected a number >= 0`; the caller says what was refused and the
// consequence.
std::string describe(const DefinitionError& error);

struct Refusal {
  DefinitionError error;
};

// A JSON value as printable ASCII, cut at 60 bytes with "..." in place of the rest.
std::string excerpt(const nlohmann::json& value);
// Puts one member name behind a JSON pointer (RFC 6901 section 3 escapes, then printable and cut as in excerpt).
void append_token(std::string& path, std::string_view member);

}  // namespace experiment::shared
