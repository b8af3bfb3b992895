#include "ngx_module/loop_bell.h"

#include <sys/eventfd.h>
#include <unistd.h>

namespace experiment::ngx {

LoopBell::LoopBell(std::function<void()> heard, ngx_log_t* log)
    : heard_(std::move(heard)), fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (fd_ == -1) return;
  c_ = ngx_get_connection(fd_, log);
  if (c_ == nullptr) {
    close(fd_);
    fd_ = -1;
    return;
  }
  c_->data = this;
  c_->read->handler = on_event;
  c_->read->log = log;
  c_->write->log = log;
  if (ngx_handle_read_event(c_->read, 0) == NGX_OK) return;
  ngx_close_connection(c_);
  c_ = nullptr;
  fd_ = -1;
}

LoopBell::~LoopBell() {
  if (c_ != nullptr) ngx_close_connection(c_);
}

void LoopBell::ring() noexcept {
  std::uint64_t one = 1;
  // A counter that is full has been rung.
  if (fd_ != -1 && write(fd_, &one, sizeof(one)) == -1) return;
}

void LoopBell::on_event(ngx_event_t* event) noexcept {
  auto* c = static_cast<ngx_connection_t*>(event->data);
  auto* self = static_cast<LoopBell*>(c->data);
  std::uint64_t rings = 0;
  if (read(self->fd_, &rings, sizeof(rings)) == -1) return;
  event->ready = 0;
  if (ngx_handle_read_event(event, 0) != NGX_OK) return;
  self->heard_();
}

}  // namespace experiment::ngx
