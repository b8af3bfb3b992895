#include "ctl/byte_stream.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace experiment::ctl {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr const char* kHungUp = "the server closed the connection";
constexpr const char* kLate = "no answer in time";

std::string text_of(int error) {
  return std::generic_category().message(error);
}

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

// Returns: none, and why, if there is no address.
std::vector<Address> addresses_of(const shared::RedisEndpoint& to, std::string& error) {
  std::vector<Address> addresses;
  if (!to.socket.empty()) {
    sockaddr_un local{};
    local.sun_family = AF_UNIX;
    to.socket.copy(local.sun_path, sizeof local.sun_path - 1);
    std::memcpy(&addresses.emplace_back().storage, &local, sizeof local);
    addresses.back().size = sizeof local;
    return addresses;
  }
  addrinfo wanted{}, *found = nullptr;
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_NUMERICSERV;
  const int code = getaddrinfo(to.host.c_str(), std::to_string(to.port).c_str(), &wanted, &found);
  if (code != 0) error = std::string("the name cannot be resolved: ") + gai_strerror(code);
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    std::memcpy(&addresses.emplace_back().storage, one->ai_addr, one->ai_addrlen);
    addresses.back().size = one->ai_addrlen;
  }
  if (found != nullptr) freeaddrinfo(found);
  return addresses;
}

bool poll_until(int socket, short events, Deadline deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now()).count();
    pollfd entry{socket, events, 0};
    const int ready = poll(&entry, 1, static_cast<int>(std::clamp<std::int64_t>(left, 0, 1 << 30)));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

// Returns: the connected socket; -1 and why.
int connect_to(const Address& address, Deadline deadline, std::string& error) {
  const int made = socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (made < 0) {
    error = text_of(errno);
    return -1;
  }
  int code = connect(made, reinterpret_cast<const sockaddr*>(&address.storage), address.size) == 0 ? 0 : errno;
  if (code == EINPROGRESS && !poll_until(made, POLLOUT, deadline)) code = ETIMEDOUT;
  socklen_t size = sizeof code;
  if (code == EINPROGRESS && getsockopt(made, SOL_SOCKET, SO_ERROR, &code, &size) != 0) code = errno;
  if (code != 0) {
    error = "no connection: " + text_of(code);
    close(made);
    return -1;
  }
  const int on = 1;
  setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // fails for a unix socket, which needs it not
  return made;
}

// Each of a name's addresses gets its part of the time.
int connect_to_any(const std::vector<Address>& addresses, Deadline deadline, std::string& error) {
  int made = -1;
  for (std::size_t i = 0; made < 0 && i < addresses.size(); ++i) {
    const auto now = steady_clock::now();
    made = connect_to(addresses[i], now + (deadline - now) / (addresses.size() - i), error);
  }
  return made;
}

}  // namespace

std::unique_ptr<ByteStream> ByteStream::open(const shared::RedisEndpoint& to, const TlsClient* tls, Deadline deadline,
                                             StreamFault& fault) {
  const int socket = connect_to_any(addresses_of(to, fault.text), deadline, fault.text);
  if (socket < 0) return nullptr;
  fault = {};
  std::unique_ptr<ByteStream> stream(new ByteStream(socket));
  if (tls != nullptr) {
    stream->ssl_ = tls->session(socket, to.host, fault.text);
    if (stream->ssl_ != nullptr)
      fault = stream->shake_hands(deadline);
    else
      fault.refused = true;
  }
  return fault.text.empty() ? std::move(stream) : nullptr;
}

ByteStream::~ByteStream() {
  if (ssl_ != nullptr) SSL_shutdown(ssl_.get());  // one try: nobody waits for it
  ERR_clear_error();
  close(socket_);
}

bool ByteStream::wait_for(short events, Deadline deadline) const {
  return poll_until(socket_, events, deadline);
}

ByteStream::Step ByteStream::ssl_step(int result) {
  Step step;
  const int failed = errno;
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      step.wait = POLLIN;
      break;
    case SSL_ERROR_WANT_WRITE:
      step.wait = POLLOUT;
      break;
    case SSL_ERROR_ZERO_RETURN:
      break;
    case SSL_ERROR_SYSCALL:
      if (failed != 0 && failed != EPIPE && failed != ECONNRESET) step.fault.text = text_of(failed);
      ERR_clear_error();
      break;
    default: {
      const long verified = SSL_get_verify_result(ssl_.get());
      step.fault.refused = true;
      step.fault.text = verified == X509_V_OK ? "TLS failed: " + tls_error()
                                              : std::string("the server's certificate is not accepted: ") +
                                                    X509_verify_cert_error_string(verified);
      ERR_clear_error();
    }
  }
  return step;
}

StreamFault ByteStream::shake_hands(Deadline deadline) {
  for (;;) {
    errno = 0;
    const int result = SSL_do_handshake(ssl_.get());
    if (result == 1) return {};
    Step step = ssl_step(result);
    if (step.wait == 0 && step.fault.text.empty()) step.fault.text = "the server closed the connection instead of TLS";
    if (!step.fault.text.empty()) return step.fault;
    if (!wait_for(step.wait, deadline)) return {"no TLS in time", false};
  }
}

ByteStream::Step ByteStream::write_some(std::string_view bytes) {
  errno = 0;
  const std::size_t size = std::min<std::size_t>(bytes.size(), 1 << 30);
  const auto sent = ssl_ == nullptr ? send(socket_, bytes.data(), size, MSG_NOSIGNAL)
                                    : SSL_write(ssl_.get(), bytes.data(), static_cast<int>(size));
  if (sent > 0) return {static_cast<std::size_t>(sent), 0, {}};
  if (ssl_ != nullptr) return ssl_step(static_cast<int>(sent));
  if (errno == EAGAIN || errno == EINTR) return {0, POLLOUT, {}};
  return errno == EPIPE || errno == ECONNRESET ? Step{} : Step{0, 0, {text_of(errno), false}};
}

ByteStream::Step ByteStream::read_some(char* into, std::size_t most) {
  errno = 0;
  const auto got = ssl_ == nullptr ? recv(socket_, into, most, 0) : SSL_read(ssl_.get(), into, static_cast<int>(most));
  if (got > 0) return {static_cast<std::size_t>(got), 0, {}};
  if (ssl_ != nullptr) return ssl_step(static_cast<int>(got));
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return {0, POLLIN, {}};
  return got == 0 || errno == ECONNRESET ? Step{} : Step{0, 0, {text_of(errno), false}};
}

StreamFault ByteStream::exchange(std::string_view out, const std::function<bool(std::string_view)>& take,
                                 Deadline deadline) {
  std::array<char, 16384> buffer;
  for (;;) {
    Step written, got;
    if (!out.empty()) {
      written = write_some(out);
      if (!written.fault.text.empty()) return written.fault;
      out.remove_prefix(written.bytes);
      if (written.bytes == 0 && written.wait == 0) out = {};  // hung up; what it said before is still to be read
    }
    got = read_some(buffer.data(), buffer.size());
    if (!got.fault.text.empty()) return got.fault;
    if (got.bytes > 0 && !take({buffer.data(), got.bytes}))
      return {out.empty() ? "" : "the server answered before it was asked", false};
    if (got.bytes == 0 && got.wait == 0) return {kHungUp, false};
    const bool moved = written.bytes > 0 || got.bytes > 0;
    const auto events = static_cast<short>(written.wait | got.wait);
    if (moved ? steady_clock::now() >= deadline : !wait_for(events, deadline)) return {kLate, false};
  }
}

bool ByteStream::idle() {
  char byte;
  const Step step = read_some(&byte, 1);
  return step.bytes == 0 && step.wait != 0;
}

}  // namespace experiment::ctl
