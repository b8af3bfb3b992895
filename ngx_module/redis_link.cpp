#include "ngx_module/redis_link.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace experiment::ngx {
namespace {

constexpr std::size_t kMostServers = 1000;
constexpr std::size_t kMostRemembered = 50;
constexpr auto kGrace = std::chrono::milliseconds(500);     // for an event loop that has other things to do
constexpr auto kPatience = std::chrono::milliseconds(250);  // of a kill on this machine
constexpr auto kLook = std::chrono::milliseconds(50);       // how often it is looked for from then on

shared::RedisRoundTrip away(const shared::RedisEndpoint& from, const char* why) {
  shared::RedisRoundTrip outcome;
  outcome.error = shared::describe(from) + ": " + why;
  outcome.away = true;
  return outcome;
}

}  // namespace

RedisLink::RedisLink(const StoreConf& store, std::vector<std::string> kill_files, std::function<void()> hint,
                     ngx_log_t* log)
    : store_(store),
      kill_files_(std::move(kill_files)),
      hint_(std::move(hint)),
      log_(log),
      bell_(std::make_unique<LoopBell>([this] { pump(); }, log)) {}

RedisLink::~RedisLink() {
  close();
}

shared::RedisRoundTrip RedisLink::round_trip(const shared::RedisEndpoint& to,
                                             const std::vector<std::string>& commands) {
  if (commands.empty()) return {};
  auto request = std::make_shared<RedisRequest>();
  request->to = to;
  request->count = commands.size();
  for (const auto& command : commands) request->bytes += command;
  return on_loop() ? ask_here(request) : wait_for(request);
}

shared::RedisRoundTrip RedisLink::wait_for(const std::shared_ptr<RedisRequest>& request) {
  request->outcome.away = hurries_;
  if (hurries_) return std::move(request->outcome);
  if (seen_.empty()) seen_ = look_at_kill_files();
  std::unique_lock lock(mutex_);
  if (closed_) return away(request->to, "this worker does not lead any more");
  wanted_request_ = request;
  bell_->ring();
  const auto over = [&] { return request->done || closed_; };
  const auto most = std::chrono::milliseconds(store_.access.connect_ms + store_.access.command_ms) + kGrace;
  const auto end = std::chrono::steady_clock::now() + most;
  answered_.wait_for(lock, kPatience, over);
  while (!over() && std::chrono::steady_clock::now() < end) {
    lock.unlock();
    const bool killed = look_at_kill_files() != seen_;
    lock.lock();
    if (killed && !hurries_ && !over()) {
      hurries_ = true;
      given_up_ = request;
      bell_->ring();
    }
    answered_.wait_for(lock, kLook, over);
  }
  if (request->done) return std::move(request->outcome);
  const bool begun = wanted_request_ != request;
  if (!begun) wanted_request_ = nullptr;
  if (closed_) return away(request->to, "this worker does not lead any more");
  auto outcome = away(request->to, "the worker's event loop is held up");
  outcome.away = !begun;
  return outcome;
}

void RedisLink::end_step() {
  seen_ = look_at_kill_files();
  hurries_ = false;
}

std::vector<shared::FileStamp> RedisLink::look_at_kill_files() const {
  std::vector<shared::FileStamp> stamps;
  for (const auto& path : kill_files_) stamps.push_back(shared::stamp_of(path));
  return stamps;
}

// What cannot be asked is `away` without an error: nothing is wrong, nothing could be tried.
shared::RedisRoundTrip RedisLink::ask_here(const std::shared_ptr<RedisRequest>& request) {
  auto caller = callers_.find(request->to);
  request->outcome.away = lingers_until_ == 0 || caller == callers_.end() || !caller->second->is_ready();
  if (request->outcome.away) return std::move(request->outcome);
  caller->second->ask(request);
  while (!request->done) {
    ngx_time_update();
    auto left = static_cast<ngx_msec_int_t>(lingers_until_ - ngx_current_msec);
    if (left > 0 && caller->second->wait(static_cast<int>(left))) continue;
    callers_.erase(caller);
    auto outcome = away(request->to, "no reply before the worker ended");
    outcome.away = false;
    return outcome;
  }
  return std::move(request->outcome);
}

void RedisLink::answered(RedisRequest& request) noexcept {
  {
    std::lock_guard lock(mutex_);
    request.done = true;
  }
  answered_.notify_all();
}

void RedisLink::keep_only(const std::vector<shared::RedisEndpoint>& endpoints) {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  wanted_endpoints_ = endpoints;
  bell_->ring();
}

void RedisLink::listen(const shared::RedisEndpoint& to, const std::string& channel) {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  wanted_listening_ = Listening{to, channel};
  bell_->ring();
}

void RedisLink::pump() noexcept {
  std::shared_ptr<RedisRequest> request, given_up;
  try {
    std::optional<std::vector<shared::RedisEndpoint>> endpoints;
    std::optional<Listening> listening;
    {
      std::lock_guard lock(mutex_);
      request = std::exchange(wanted_request_, nullptr);
      given_up = std::exchange(given_up_, nullptr);
      endpoints = std::exchange(wanted_endpoints_, std::nullopt);
      listening = std::exchange(wanted_listening_, std::nullopt);
    }
    if (endpoints) drop_others(*endpoints);
    if (listening) begin_listening(std::move(*listening));
    if (request != nullptr) ask(std::move(request));
    if (given_up != nullptr) give_up(*given_up);
  } catch (...) {  // out of memory: who asks gives up, and comes again
  }
}

void RedisLink::ask(std::shared_ptr<RedisRequest> request) {
  auto caller = callers_.find(request->to);
  if (caller == callers_.end()) {
    if (callers_.size() >= kMostServers) {
      request->outcome = away(request->to, "too many servers");
      return answered(*request);
    }
    RedisCaller::Asker& asker = *this;
    caller = callers_.emplace(request->to, std::make_unique<RedisCaller>(store_, request->to, asker, log_)).first;
  }
  caller->second->ask(std::move(request));
}

void RedisLink::give_up(const RedisRequest& request) {
  const auto caller = callers_.find(request.to);
  if (caller != callers_.end()) caller->second->give_up(request);
}

void RedisLink::drop_others(const std::vector<shared::RedisEndpoint>& endpoints) {
  auto is_kept = [&](const shared::RedisEndpoint& known) {
    return std::find(endpoints.begin(), endpoints.end(), known) != endpoints.end();
  };
  for (auto caller = callers_.begin(); caller != callers_.end();) {
    const bool kept = is_kept(caller->first);
    // One that failed is remembered: asked again, as a master that sentinels still name, it is not waited for again.
    const bool remembered = !kept && caller->second->has_failed() && callers_.size() <= kMostRemembered;
    if (remembered) caller->second->rest();
    caller = kept || remembered ? std::next(caller) : callers_.erase(caller);
  }
}

void RedisLink::begin_listening(Listening wanted) {
  if (listener_ != nullptr && listener_->endpoint() == wanted.to && listener_->channel() == wanted.channel) return;
  listener_ = std::make_unique<RedisListener>(store_, std::move(wanted.to), std::move(wanted.channel), hint_, log_);
  listener_->start();
}

void RedisLink::close() noexcept {
  std::unique_ptr<LoopBell> bell;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    bell = std::move(bell_);
  }
  answered_.notify_all();
  listener_.reset();
  callers_.clear();
}

void RedisLink::linger(int ms) noexcept {
  ngx_time_update();
  lingers_until_ = ngx_current_msec + static_cast<ngx_msec_t>(ms);
}

}  // namespace experiment::ngx
