// A log for connections whose troubles are told by us: nginx's lines about them become the reason in ours.
//
// nginx would write a line for each failed connect(), handshake and read, again and again while a server is away. Here
// the last one is kept. Used on the event loop, and while the configuration is read.
#pragma once

#include <string>

#include "ngx_module/ngx.h"

namespace experiment::ngx {

class FaultLog {
 public:
  // `alerts`: where alerts go as well, since they are about us; nullptr: nowhere.
  explicit FaultLog(ngx_log_t* alerts) noexcept;
  FaultLog(const FaultLog&) = delete;
  FaultLog& operator=(const FaultLog&) = delete;

  ngx_log_t* log() noexcept { return &log_; }
  // The last line's text, which is forgotten; `otherwise` when there was none.
  std::string take(const char* otherwise);

 private:
  static void write(ngx_log_t* log, ngx_uint_t level, u_char* line, std::size_t length) noexcept;

  ngx_log_t log_{};
  ngx_log_t* alerts_;
  u_char text_[512];  // no heap: nginx calls from where nothing may be thrown
  std::size_t length_ = 0;
};

}  // namespace experiment::ngx
