#include "ngx_module/redis_peer.h"

#include "ngx_module/socket_address.h"

namespace experiment::ngx {
namespace {

constexpr ngx_msec_t kNoMemoryMs = 1000;

}  // namespace

RedisPeer::RedisPeer(const StoreConf& store, shared::RedisEndpoint endpoint, const shared::RedisLimits& limits,
                     ngx_log_t* log)
    : store_(store), log_(log), endpoint_(std::move(endpoint)), limits_(limits) {
  timer_.handler = on_event;
  timer_.data = this;
  timer_.log = log;
  timer_.cancelable = 1;
}

RedisPeer::~RedisPeer() {
  close();
}

void RedisPeer::close() noexcept {
  clear_timer();
  if (resolving_ != nullptr) {
    ngx_resolve_name_done(resolving_);
    resolving_ = nullptr;
  }
  connection_.reset();
}

void RedisPeer::rest() noexcept {
  if (stage_ == Stage::kWaiting) clear_timer();
}

bool RedisPeer::may_open() const noexcept {
  return stage_ == Stage::kWaiting && !timer_.timer_set &&
         backoff_.may_try(static_cast<std::int64_t>(ngx_current_msec));
}

void RedisPeer::set_timer(ngx_msec_t ms) noexcept {
  clear_timer();  // nginx leaves a timer that is set where it is, if that is near
  ngx_add_timer(&timer_, ms);
}

void RedisPeer::clear_timer() noexcept {
  if (timer_.timer_set) ngx_del_timer(&timer_);
}

// What nginx calls throws nothing: memory that runs out ends the attempt.
template <typename F>
void RedisPeer::guarded(F&& act) noexcept {
  try {
    act();
  } catch (...) {
    close();
    ++failures_;
    stage_ = Stage::kWaiting;
    set_timer(kNoMemoryMs);
    on_lost();
  }
}

void RedisPeer::on_event(ngx_event_t* event) noexcept {
  auto* self = static_cast<RedisPeer*>(event->data);
  self->guarded([&] { self->expire(); });
}

void RedisPeer::woken() noexcept {
  guarded([&] { proceed(); });
}

bool RedisPeer::wait(int ms) noexcept {
  if (connection_ == nullptr || !connection_->wait(ms)) return false;
  woken();
  return true;
}

void RedisPeer::expire() {
  const int within = store_.access.connect_ms;
  switch (stage_) {
    case Stage::kOpening:
      lose(std::string("no ") + (connection_ == nullptr ? "address of the name" : connection_->waits_for()) +
           " within " + std::to_string(within) + " ms");
      break;
    case Stage::kReady:
      on_timer();
      break;
    default:
      open();
  }
}

void RedisPeer::open() {
  stage_ = Stage::kOpening;
  addresses_.clear();
  set_timer(static_cast<ngx_msec_t>(store_.access.connect_ms));
  if (auto address = literal_address(endpoint_)) {
    addresses_.push_back(std::move(*address));
  } else if (auto known = store_.resolved.find(endpoint_); known != store_.resolved.end()) {
    addresses_ = known->second;
  } else if (!endpoint_.socket.empty()) {
    return lose("a path that is too long for a socket", true);
  } else if (store_.resolver == nullptr) {
    return lose("a name that came up at run time, which takes a \"resolver\" in the http block", true);
  } else {
    return resolve();
  }
  begin_connecting();
}

void RedisPeer::resolve() {
  ngx_resolver_ctx_t* ctx = ngx_resolve_start(store_.resolver, nullptr);
  if (ctx == nullptr || ctx == NGX_NO_RESOLVER) return lose("the resolver cannot be asked");
  resolved_name_ = endpoint_.host;
  ctx->name = borrow(resolved_name_);
  ctx->handler = on_resolved;
  ctx->data = this;
  ctx->timeout = static_cast<ngx_msec_t>(store_.access.connect_ms);
  ctx->cancelable = 1;
  resolving_ = ctx;
  if (ngx_resolve_name(ctx) == NGX_OK) return;
  resolving_ = nullptr;
  lose("the resolver cannot be asked");
}

void RedisPeer::on_resolved(ngx_resolver_ctx_t* ctx) noexcept {
  auto* self = static_cast<RedisPeer*>(ctx->data);
  self->guarded([&] { self->take_addresses(ctx); });
}

void RedisPeer::take_addresses(ngx_resolver_ctx_t* ctx) {
  const char* why = ctx->state != NGX_OK ? ngx_resolver_strerror(ctx->state) : nullptr;
  for (ngx_uint_t i = 0; why == nullptr && i < ctx->naddrs; ++i)
    addresses_.push_back(address_of(ctx->addrs[i].sockaddr, ctx->addrs[i].socklen, endpoint_.port));
  resolving_ = nullptr;
  ngx_resolve_name_done(ctx);
  if (addresses_.empty()) return lose(std::string("the name cannot be resolved: ") + (why != nullptr ? why : "empty"));
  begin_connecting();
}

// Each attempt begins with another one, so that an address that swallows everything does not stand in the way.
void RedisPeer::begin_connecting() {
  next_address_ = attempts_++;
  addresses_left_ = addresses_.size();
  connect_next();
}

void RedisPeer::connect_next() {
  const SocketAddress& to = addresses_[next_address_++ % addresses_.size()];
  --addresses_left_;
  static std::uint64_t last_id = 0;  // of all peers: of two connections to one server one may be another peer's
  id_ = ++last_id;
  RedisConnection::Owner& owner = *this;
  connection_ = std::make_unique<RedisConnection>(store_, to, endpoint_.host, limits_, owner, log_);
  proceed();
}

void RedisPeer::proceed() {
  auto state = connection_->progress();
  if (stage_ == Stage::kOpening) {
    if (state == RedisConnection::State::kOpening) return;
    if (state == RedisConnection::State::kBroken) {
      if (addresses_left_ != 0 && !connection_->refused()) return connect_next();
      return lose(connection_->problem(), connection_->refused());
    }
    stage_ = Stage::kReady;
    proved_ = false;
    clear_timer();
    on_ready();
  }
  while (stage_ == Stage::kReady) {
    auto reply = connection_->next();
    if (!reply) break;
    on_reply(std::move(*reply));
  }
  if (stage_ == Stage::kReady && connection_->state() == RedisConnection::State::kBroken)
    lose(connection_->problem(), connection_->refused());
}

void RedisPeer::transmit(std::string bytes) {
  connection_->send(std::move(bytes));
  if (connection_->state() == RedisConnection::State::kBroken) lose(connection_->problem(), connection_->refused());
}

void RedisPeer::prove() noexcept {
  proved_ = true;
  failures_ = 0;
  backoff_.succeeded();
}

void RedisPeer::lose(const std::string& problem, bool refused) {
  // Servers close connections when they restart, and idle ones by their own rules. That is no failure yet.
  const bool harmless = stage_ == Stage::kReady && proved_ && is_idle() && !refused;
  problem_ = shared::describe(endpoint_) + ": " + problem;  // `problem` may be the connection's
  refused_ = refused;
  close();
  if (!harmless) ++failures_;
  stage_ = Stage::kWaiting;
  const auto now = static_cast<std::int64_t>(ngx_current_msec);
  backoff_.failed(now, static_cast<std::uint64_t>(ngx_random()), refused);
  set_timer(static_cast<ngx_msec_t>(backoff_.wait_ms(now)));
  on_lost();
}

}  // namespace experiment::ngx
