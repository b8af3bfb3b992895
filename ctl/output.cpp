#include "ctl/output.h"

#include <algorithm>
#include <ctime>
#include <iostream>

namespace experiment::ctl {

void Output::warn(const std::string& line) {
  if (std::find(warnings_.begin(), warnings_.end(), line) != warnings_.end()) return;  // a verb may look more than once
  std::cerr << "experimentctl: " << line << '\n';
  warnings_.push_back(line);
}

int Output::fail(ExitCode code, const std::string& line) {
  std::cerr << "experimentctl: " << line << '\n';
  if (json_) print({{"ok", false}, {"error", line}});
  return code;
}

int Output::done(const std::string& text, nlohmann::json result) {
  return end(kOk, text, std::move(result));
}

int Output::end(ExitCode code, const std::string& text, nlohmann::json result) {
  result["ok"] = code == kOk;
  if (json_) {
    print(std::move(result));
  } else {
    std::cout << text << std::flush;
  }
  return code;
}

void Output::print(nlohmann::json result) const {
  result["warnings"] = warnings_;
  std::cout << result.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

std::string time_text(std::int64_t unix_s) {
  const std::time_t time = unix_s;
  std::tm parts{};
  char text[32] = "";
  if (gmtime_r(&time, &parts) == nullptr || std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
    return "?";
  return text;
}

}  // namespace experiment::ctl
