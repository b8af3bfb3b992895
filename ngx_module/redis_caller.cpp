#include "ngx_module/redis_caller.h"

namespace experiment::ngx {

RedisCaller::RedisCaller(const StoreConf& store, shared::RedisEndpoint endpoint, Asker& asker, ngx_log_t* log)
    : RedisPeer(store, std::move(endpoint), shared::RedisLimits{}, log), asker_(asker) {}

void RedisCaller::ask(std::shared_ptr<RedisRequest> request) {
  // Who asked before does not wait any more: the replies to that would be taken for those to this.
  if (request_ != nullptr && stage() == Stage::kReady) lose("the replies to an earlier request did not come in time");
  request_ = std::move(request);
  sent_ = false;
  switch (stage()) {
    case Stage::kReady:
      return begin();
    case Stage::kIdle:
      return open();
    default:
      if (has_failed()) {
        on_lost();
        if (may_open()) open();
      } else if (stage() == Stage::kWaiting) {
        open();
      }
  }
}

void RedisCaller::give_up(const RedisRequest& request) {
  if (request_.get() == &request) lose("no reply yet, and a kill on this machine waits for none");
}

void RedisCaller::on_ready() {
  if (request_ != nullptr) begin();
}

void RedisCaller::begin() {
  sent_ = true;
  request_->outcome.connection = connection_id();
  set_timer(command_ms());
  transmit(std::move(request_->bytes));
}

void RedisCaller::on_reply(shared::RedisReply reply) {
  if (request_ == nullptr) return lose("a reply that nobody asked for");
  auto& replies = request_->outcome.replies;
  replies.push_back(std::move(reply));
  if (replies.size() < request_->count) return;
  clear_timer();
  prove();
  answer();
}

void RedisCaller::on_timer() {
  lose("no reply within " + std::to_string(command_ms()) + " ms");
}

void RedisCaller::on_lost() noexcept {
  if (request_ == nullptr) return;
  auto& outcome = request_->outcome;
  try {
    outcome.error = problem();
    if (outcome.error.empty()) outcome.error = "out of memory";
  } catch (...) {
    outcome.error = "no memory";  // short enough to need none
  }
  outcome.away = !sent_;
  outcome.refused = refused();
  answer();
}

void RedisCaller::answer() noexcept {
  auto request = std::move(request_);
  request_ = nullptr;
  asker_.answered(*request);
}

}  // namespace experiment::ngx
