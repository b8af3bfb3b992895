#include "ngx_module/redis_connection.h"

#include <poll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "ngx_module/store_tls.h"
#include "shared/redis_login.h"
#include "shared/redis_topology.h"

namespace experiment::ngx {
namespace {

constexpr std::size_t kReadBytes = 16384;
constexpr std::size_t kBytesPerTurn = 64 * 1024;  // before requests have their turn
constexpr std::size_t kPoolBytes = 1024;

enum Greeting { kAuth, kName, kPing, kGreetings };

bool begins_with(std::string_view text, std::string_view prefix) noexcept {
  return text.substr(0, prefix.size()) == prefix;
}

// Without the byte that was met, which may be another one each time: the log says a cause once in a while.
std::string not_understood(const std::string& error) {
  return "not understood: " + error.substr(0, error.find(", got "));
}

bool is_tls_fault(const std::string& problem) {
  return problem.find("(SSL:") != std::string::npos;
}

}  // namespace

RedisConnection::RedisConnection(const StoreConf& store, const SocketAddress& to, const std::string& host,
                                 const shared::RedisLimits& limits, Owner& owner, ngx_log_t* log)
    : store_(store), to_(to), host_(host), owner_(owner), fault_log_(log), reader_(limits), name_(borrow(to_.name)) {}

RedisConnection::~RedisConnection() {
  if (c_ == nullptr) return;
  end_tls(c_);
  ngx_pool_t* pool = c_->pool;
  ngx_close_connection(c_);
  ngx_destroy_pool(pool);
}

void RedisConnection::on_event(ngx_event_t* event) noexcept {
  auto* c = static_cast<ngx_connection_t*>(event->data);
  static_cast<RedisConnection*>(c->data)->owner_.woken();
}

// nginx took the handlers for the handshake's time.
void RedisConnection::on_handshake(ngx_connection_t* c) noexcept {
  auto* self = static_cast<RedisConnection*>(c->data);
  self->shaken_ = true;
  self->owner_.woken();
}

RedisConnection::State RedisConnection::progress() {
  if (is_broken()) return state_;
  if (phase_ == Phase::kNew) connect();
  if (phase_ == Phase::kConnecting && !is_broken()) finish_connect();
#if (NGX_SSL)
  if (phase_ == Phase::kHandshaking && shaken_ && !is_broken())
    finish_handshake(c_->ssl->handshaked ? NGX_OK : NGX_ERROR);
#endif
  if (phase_ >= Phase::kGreeting && !is_broken()) {
    write();
    read();
  }
  return state_;
}

void RedisConnection::fail(std::string problem, bool refused) {
  if (is_broken()) return;
  state_ = State::kBroken;
  problem_ = std::move(problem);
  refused_ = refused;
}

void RedisConnection::connect() {
  ngx_peer_connection_t peer{};
  peer.sockaddr = &to_.at.sockaddr;
  peer.socklen = to_.length;
  peer.name = &name_;
  peer.get = ngx_event_get_peer;
  peer.log = fault_log_.log();
  peer.log_error = NGX_ERROR_ERR;
  phase_ = Phase::kConnecting;
  ngx_int_t rc = ngx_event_connect_peer(&peer);
  if (rc != NGX_OK && rc != NGX_AGAIN) return fail(fault_log_.take("connect() failed"));
  c_ = peer.connection;
  c_->data = this;
  c_->read->handler = on_event;
  c_->write->handler = on_event;
  c_->pool = ngx_create_pool(kPoolBytes, fault_log_.log());
  if (c_->pool == nullptr) {
    ngx_close_connection(c_);
    c_ = nullptr;
    return fail("out of memory");
  }
  if (rc == NGX_OK) connected();
}

void RedisConnection::finish_connect() {
  if (!c_->write->ready && !c_->read->ready) return;
  int error = 0;
  socklen_t length = sizeof(error);
  if (getsockopt(c_->fd, SOL_SOCKET, SO_ERROR, &error, &length) == -1) error = ngx_socket_errno;
  if (error != 0) {
    return fail("connect() to " + to_.name + " failed (" + std::to_string(error) + ": " + std::strerror(error) + ")");
  }
  connected();
}

void RedisConnection::connected() {
  if (to_.at.sockaddr.sa_family != AF_UNIX && ngx_tcp_nodelay(c_) != NGX_OK)
    return fail(fault_log_.take("no TCP_NODELAY"));
  if (store_.tls != nullptr) return begin_handshake();
  greet();
}

void RedisConnection::begin_handshake() {
#if (NGX_SSL)
  phase_ = Phase::kHandshaking;
  if (!begin_tls(store_, c_, host_)) return fail(fault_log_.take("no memory for TLS"));
  c_->ssl->handler = on_handshake;
  ngx_int_t rc = ngx_ssl_handshake(c_);
  if (rc != NGX_AGAIN) finish_handshake(rc);
#else
  fail("TLS is not in this build");
#endif
}

void RedisConnection::finish_handshake(ngx_int_t rc) {
  std::string why = refused_certificate(store_, c_, host_);
  if (!why.empty()) return fail(std::move(why), true);
  // A server that goes away in between has refused nothing.
  if (rc != NGX_OK) {
    bool refused = c_->read->error;
    return fail(fault_log_.take("TLS handshake failed"), refused);
  }
  c_->read->handler = on_event;
  c_->write->handler = on_event;
  greet();
}

// With the password as it is now, where this worker may read it.
void RedisConnection::greet() {
  phase_ = Phase::kGreeting;
  auto login = shared::login_for(store_.access);
  const std::string& auth = login.error.empty() ? login.command : store_.login;
  const std::string rest =
      shared::format_command({"CLIENT", "SETNAME", "nginx-experiment"}) + shared::format_command({"PING"});
  out_.reserve(auth.size() + rest.size());  // no copy of the password is left behind
  out_.assign(auth).append(rest);
  sent_ = 0;
  secret_ = !auth.empty();
  greeted_ = secret_ ? kAuth : kName;
  shared::wipe(login.command);
}

void RedisConnection::take_greeting() {
  while (greeted_ < kGreetings) {
    auto reply = reader_.next();
    if (!reply) return;
    if (!is_welcome(*reply)) return;
    ++greeted_;
  }
  phase_ = Phase::kGreeted;
  state_ = State::kReady;
}

bool RedisConnection::is_welcome(const shared::RedisReply& reply) {
  // Servers that take no command at all say so before the first.
  const bool any = reply.is_error() && (begins_with(reply.text, "DENIED") || begins_with(reply.text, "ERR max number"));
  if (greeted_ == kAuth && !any) {
    bool refused = false;
    std::string error = shared::login_error(reply, refused);
    if (!error.empty()) fail(std::move(error), refused);
    return error.empty() && !is_broken();
  }
  if (greeted_ == kName && !any) return true;  // a nicety, which an ACL may forbid
  if (reply.is_text()) return true;
  switch (shared::fault_of(reply)) {
    case shared::RedisFault::kLoading:
    case shared::RedisFault::kMasterDown:
    case shared::RedisFault::kBusy:
      return true;  // the next commands will be told the same
    case shared::RedisFault::kNoPerm:
      if (!any) return true;  // PING is forbidden, which says that we are in
      break;
    default:
      break;
  }
  fail("the server refused the connection: " + shared::printable(reply.text),
       begins_with(reply.text, "NOAUTH") || begins_with(reply.text, "DENIED"));
  return false;
}

void RedisConnection::send(std::string bytes) {
  if (!out_.empty()) return fail("answered before it was asked");  // TLS cannot send anything else meanwhile
  out_ = std::move(bytes);
  sent_ = 0;
  write();
}

void RedisConnection::write() {
  while (sent_ < out_.size()) {
    ssize_t n = c_->send(c_, reinterpret_cast<u_char*>(out_.data()) + sent_, out_.size() - sent_);
    if (n == NGX_AGAIN) break;
    if (n < 0) return fail(fault_log_.take("send() failed"));
    sent_ += static_cast<std::size_t>(n);
  }
  if (sent_ == out_.size()) {
    if (std::exchange(secret_, false)) shared::wipe(out_);
    out_.clear();
    sent_ = 0;
  }
  if (ngx_handle_write_event(c_->write, 0) != NGX_OK) fail("no event for the socket");
}

void RedisConnection::read() {
  u_char buffer[kReadBytes];
  std::string ended;
  for (std::size_t got = 0; c_->read->ready && got < kBytesPerTurn;) {
    ssize_t n = c_->recv(c_, buffer, sizeof(buffer));
    if (n == NGX_AGAIN) break;
    if (n <= 0) {
      ended = n == 0 ? "the server closed the connection" : fault_log_.take("recv() failed");
      break;
    }
    got += static_cast<std::size_t>(n);
    if (!reader_.feed({reinterpret_cast<char*>(buffer), static_cast<std::size_t>(n)})) break;
  }
  if (phase_ == Phase::kGreeting) take_greeting();
  if (is_broken()) return;
  if (!ended.empty()) return fail(std::move(ended), phase_ == Phase::kGreeting && is_tls_fault(ended));
  if (!reader_.error().empty()) return fail(not_understood(reader_.error()));
  if (c_->read->ready) {
    ngx_post_event(c_->read, &ngx_posted_next_events);
  } else if (ngx_handle_read_event(c_->read, 0) != NGX_OK) {
    fail("no event for the socket");
  }
}

std::optional<shared::RedisReply> RedisConnection::next() {
  auto reply = reader_.next();
  if (!reply && !reader_.error().empty()) fail(not_understood(reader_.error()));
  return reply;
}

const char* RedisConnection::waits_for() const noexcept {
  switch (phase_) {
    case Phase::kNew:
    case Phase::kConnecting:
      return "connection";
    case Phase::kHandshaking:
      return "TLS handshake";
    default:
      return "answer to the greeting";
  }
}

bool RedisConnection::wait(int ms) noexcept {
  pollfd socket{};
  socket.fd = c_->fd;
  socket.events = static_cast<short>(POLLIN | (sent_ < out_.size() ? POLLOUT : 0));
  if (poll(&socket, 1, ms) <= 0) return false;
  c_->read->ready = 1;
  c_->read->available = -1;
  c_->write->ready = 1;
  return true;
}

}  // namespace experiment::ngx
