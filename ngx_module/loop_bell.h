// Wakes the event loop from another thread.
#pragma once

#include <functional>

#include "ngx_module/ngx.h"

namespace experiment::ngx {

// Made and destroyed on the event loop, rung from anywhere while it lives; several rings may be heard as one.
class LoopBell {
 public:
  // `heard` runs on the event loop and throws nothing.
  LoopBell(std::function<void()> heard, ngx_log_t* log);
  ~LoopBell();
  LoopBell(const LoopBell&) = delete;
  LoopBell& operator=(const LoopBell&) = delete;

  void ring() noexcept;
  // False: the system has none to give, and nothing is ever heard.
  bool works() const noexcept { return c_ != nullptr; }

 private:
  static void on_event(ngx_event_t* event) noexcept;

  std::function<void()> heard_;
  int fd_;
  ngx_connection_t* c_ = nullptr;
};

}  // namespace experiment::ngx
