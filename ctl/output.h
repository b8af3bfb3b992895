// What a verb says: a result on standard output, as text or as one JSON object; warnings and errors on standard error,
// one line each.
//
// With --json the object also holds them, under "error" and "warnings", and "ok" says whether the exit code is 0.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "ctl/exit_code.h"

namespace experiment::ctl {

class Output {
 public:
  explicit Output(bool json) : json_(json) {}
  // Each line once.
  void warn(const std::string& line);
  // Before a verb begins anew: what was warned of may be said again.
  void forget() { warnings_.clear(); }
  // Ends a verb without success. Returns `code`.
  int fail(ExitCode code, const std::string& line);
  // Ends a verb: `text` for people, `result` (an object) for machines. Returns kOk.
  int done(const std::string& text, nlohmann::json result);
  // The same with something that its caller must not overlook. Returns `code`.
  int end(ExitCode code, const std::string& text, nlohmann::json result);

 private:
  void print(nlohmann::json result) const;

  bool json_;
  nlohmann::json warnings_ = nlohmann::json::array();
};

// 2026-12-01T00:00:00Z
std::string time_text(std::int64_t unix_s);

}  // namespace experiment::ctl
