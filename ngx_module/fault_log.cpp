#include "ngx_module/fault_log.h"

#include <algorithm>
#include <string_view>

namespace experiment::ngx {
namespace {

// Of "2026/01/31 12:00:00 [error] 12#12: *3 connect() failed\n" what comes behind the process.
std::string_view without_head(std::string_view line) noexcept {
  std::size_t head = line.find(": ", std::min(line.find('#'), line.size()));
  if (head != line.npos) line.remove_prefix(head + 2);
  if (!line.empty() && line[0] == '*') line.remove_prefix(std::min(line.find(' ') + 1, line.size()));
  while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.remove_suffix(1);
  return line;
}

}  // namespace

FaultLog::FaultLog(ngx_log_t* alerts) noexcept : alerts_(alerts) {
  log_.log_level = NGX_LOG_INFO;
  log_.writer = write;
  log_.wdata = this;
}

std::string FaultLog::take(const char* otherwise) {
  std::string text = length_ == 0 ? otherwise : std::string(reinterpret_cast<char*>(text_), length_);
  length_ = 0;
  return text;
}

void FaultLog::write(ngx_log_t* log, ngx_uint_t level, u_char* line, std::size_t length) noexcept {
  auto& self = *static_cast<FaultLog*>(log->wdata);
  std::string_view text = without_head({reinterpret_cast<char*>(line), length});
  self.length_ = std::min(text.size(), sizeof(self.text_));
  std::memcpy(self.text_, text.data(), self.length_);
  if (level <= NGX_LOG_ALERT && self.alerts_ != nullptr)
    ngx_log_error(level, self.alerts_, 0, "experiment: %*s", self.length_, self.text_);
}

}  // namespace experiment::ngx
