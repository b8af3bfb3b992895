#include "ctl/tls_client.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <cerrno>

namespace experiment::ctl {
namespace {

bool would_block() noexcept {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

// OpenSSL's own socket BIO writes by write(), which raises SIGPIPE.
int send_quietly(BIO* bio, const char* bytes, int size) noexcept {
  BIO_clear_retry_flags(bio);
  const auto socket = static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(bio)));
  const ssize_t sent = send(socket, bytes, static_cast<std::size_t>(size), MSG_NOSIGNAL);
  if (sent < 0 && would_block()) BIO_set_retry_write(bio);
  return static_cast<int>(sent);
}
int receive(BIO* bio, char* bytes, int size) noexcept {
  BIO_clear_retry_flags(bio);
  const auto socket = static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(bio)));
  const ssize_t got = recv(socket, bytes, static_cast<std::size_t>(size), 0);
  if (got < 0 && would_block()) BIO_set_retry_read(bio);
  return static_cast<int>(got);
}
long control(BIO*, int command, long, void*) noexcept {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

const BIO_METHOD* quiet_socket() {
  static const BIO_METHOD* const kMethod = [] {
    BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "quiet socket");
    BIO_meth_set_write(method, send_quietly);
    BIO_meth_set_read(method, receive);
    BIO_meth_set_ctrl(method, control);
    return method;
  }();
  return kMethod;
}

bool is_address(const std::string& host) {
  in6_addr address;
  return inet_pton(AF_INET, host.c_str(), &address) == 1 || inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

// Whom the certificate must name, and who the server is told that we want.
bool expect_name(SSL* ssl, const std::string& name) {
  X509_VERIFY_PARAM* expected = SSL_get0_param(ssl);
  if (is_address(name)) return X509_VERIFY_PARAM_set1_ip_asc(expected, name.c_str()) == 1;
  X509_VERIFY_PARAM_set_hostflags(expected, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return X509_VERIFY_PARAM_set1_host(expected, name.c_str(), name.size()) == 1 &&
         SSL_set_tlsext_host_name(ssl, name.c_str()) == 1;
}

}  // namespace

std::string tls_error() {
  const unsigned long code = ERR_peek_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "no reason given" : reason;
}

TlsClient::TlsClient(const shared::RedisAccess& access)
    : context_(SSL_CTX_new(TLS_client_method())), server_name_(access.server_name), error_(load(access)) {}

std::string TlsClient::load(const shared::RedisAccess& access) {
  ERR_clear_error();
  if (context_ == nullptr) return "TLS cannot be used: " + tls_error();
  SSL_CTX* context = context_.get();
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_default_passwd_cb(context, [](char*, int, int, void*) noexcept { return 0; });  // or it asks the terminal
  const bool trusted = access.ca_file.empty()
                           ? SSL_CTX_set_default_verify_paths(context) == 1
                           : SSL_CTX_load_verify_locations(context, access.ca_file.c_str(), nullptr) == 1;
  if (!trusted) return access.ca_file + " cannot be read as certificates of authorities: " + tls_error();
  if (access.certificate_file.empty()) return {};
  if (SSL_CTX_use_certificate_chain_file(context, access.certificate_file.c_str()) != 1)
    return access.certificate_file + " cannot be read as a certificate: " + tls_error();
  if (SSL_CTX_use_PrivateKey_file(context, access.key_file.c_str(), SSL_FILETYPE_PEM) != 1)
    return access.key_file + " cannot be read as the key of " + access.certificate_file + ": " + tls_error();
  return {};
}

Ssl TlsClient::session(int socket, const std::string& host, std::string& error) const {
  error = error_;
  if (!error.empty()) return nullptr;
  ERR_clear_error();
  Ssl ssl(SSL_new(context_.get()));
  BIO* bio = ssl == nullptr ? nullptr : BIO_new(quiet_socket());
  if (bio == nullptr || !expect_name(ssl.get(), server_name_.empty() ? host : server_name_)) {
    BIO_free(bio);
    error = "TLS cannot be used: " + tls_error();
    return nullptr;
  }
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<std::intptr_t>(socket)));
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl.get(), bio, bio);
  SSL_set_connect_state(ssl.get());
  return ssl;
}

}  // namespace experiment::ctl
