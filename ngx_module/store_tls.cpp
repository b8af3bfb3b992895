#include "ngx_module/store_tls.h"

#include <utility>

#include "ngx_module/config_error.h"
#include "ngx_module/fault_log.h"
#include "ngx_module/socket_address.h"

#if (NGX_SSL)
#include <openssl/x509v3.h>
#endif

namespace experiment::ngx {

#if (NGX_SSL)
namespace {

constexpr ngx_int_t kChainDepth = 10;

// The name that the certificate must have.
const std::string& name_for(const StoreConf& store, const std::string& host) noexcept {
  return store.access.server_name.empty() ? host : store.access.server_name;
}

bool is_address(const std::string& name) {
  shared::RedisEndpoint endpoint;
  endpoint.host = name;
  return literal_address(endpoint).has_value();
}

// One line, with what OpenSSL says.
char* unusable(ngx_conf_t* cf, const char* parameter, const std::string& path, const char* what, FaultLog& faults) {
  std::string why = faults.take("out of memory");
  ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%s=%s\" in \"experiment_store\", expected %s: %s", parameter,
                     path.c_str(), what, why.c_str());
  return conf_error();
}

ngx_ssl_t* make_context(ngx_conf_t* cf) noexcept {
  auto* tls = static_cast<ngx_ssl_t*>(ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t)));
  if (tls == nullptr) return nullptr;
  tls->log = cf->log;
  if (ngx_ssl_create(tls, NGX_SSL_TLSv1_2 | NGX_SSL_TLSv1_3, nullptr) != NGX_OK) return nullptr;
  ngx_pool_cleanup_t* cleanup = ngx_pool_cleanup_add(cf->pool, 0);
  if (cleanup == nullptr) {
    ngx_ssl_cleanup_ctx(tls);
    return nullptr;
  }
  cleanup->handler = ngx_ssl_cleanup_ctx;
  cleanup->data = tls;
  return tls;
}

// What nginx says about these files is a part of our line.
template <typename F>
bool loads(ngx_ssl_t* tls, FaultLog& faults, F&& load) noexcept {
  ngx_log_t* log = std::exchange(tls->log, faults.log());
  const ngx_uint_t to_stderr = std::exchange(ngx_use_stderr, 0);
  const bool loaded = load();
  ngx_use_stderr = to_stderr;
  tls->log = log;
  return loaded;
}

bool load_certificate(ngx_conf_t* cf, const shared::RedisAccess& access, ngx_ssl_t* tls) noexcept {
  ngx_str_t certificate = borrow(access.certificate_file), key = borrow(access.key_file);
  return ngx_ssl_certificate(cf, tls, &certificate, &key, nullptr) == NGX_OK;
}

bool load_authorities(ngx_conf_t* cf, const shared::RedisAccess& access, ngx_ssl_t* tls) noexcept {
  SSL_CTX_set_verify_depth(tls->ctx, kChainDepth);
  if (access.ca_file.empty()) return SSL_CTX_set_default_verify_paths(tls->ctx) == 1;
  ngx_str_t ca = borrow(access.ca_file);
  return ngx_ssl_trusted_certificate(cf, tls, &ca, kChainDepth) == NGX_OK;
}

}  // namespace

char* load_tls(ngx_conf_t* cf, StoreConf& store) {
  const auto& access = store.access;
  ngx_ssl_t* tls = make_context(cf);
  if (tls == nullptr) return conf_error();
  FaultLog faults(nullptr);
  if (!access.certificate_file.empty() && !loads(tls, faults, [&] { return load_certificate(cf, access, tls); })) {
    return unusable(cf, "certificate", access.certificate_file,
                    "a PEM file with a certificate, and its key in that of key=", faults);
  }
  if (!loads(tls, faults, [&] { return load_authorities(cf, access, tls); }))
    return unusable(cf, "ca", access.ca_file, "a PEM file with the certificates that servers' are signed by", faults);
  // In place of nginx's own callback, which goes on with any certificate and leaves it to be judged later.
  SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, nullptr);
  store.tls = tls;
  return NGX_CONF_OK;
}

bool begin_tls(const StoreConf& store, ngx_connection_t* c, const std::string& host) {
  if (ngx_ssl_create_connection(store.tls, c, NGX_SSL_CLIENT) != NGX_OK) return false;
  const std::string& name = name_for(store, host);
  // Addresses are not named there (RFC 6066).
  return is_address(name) || SSL_set_tlsext_host_name(c->ssl->connection, name.c_str()) == 1;
}

std::string refused_certificate(const StoreConf& store, ngx_connection_t* c, const std::string& host) {
  long verified = SSL_get_verify_result(c->ssl->connection);
  if (verified != X509_V_OK)
    return std::string("its certificate is refused: ") + X509_verify_cert_error_string(verified);
  if (!c->ssl->handshaked) return {};
  const std::string& name = name_for(store, host);
  bool named = false;
  if (is_address(name)) {
    X509* certificate = SSL_get_peer_certificate(c->ssl->connection);
    named = certificate != nullptr && X509_check_ip_asc(certificate, name.c_str(), 0) == 1;
    X509_free(certificate);
  } else {
    ngx_str_t text = borrow(name);
    named = ngx_ssl_check_host(c, &text) == NGX_OK;
  }
  return named ? std::string() : "its certificate is refused: it is not one of \"" + name + "\"";
}

void end_tls(ngx_connection_t* c) noexcept {
  if (c->ssl == nullptr) return;
  c->ssl->no_wait_shutdown = 1;
  if (ngx_ssl_shutdown(c) != NGX_AGAIN) return;
  c->timedout = 1;  // not even the farewell can be sent: without it
  (void)ngx_ssl_shutdown(c);
}

#else  // nginx without http_ssl_module

char* load_tls(ngx_conf_t* cf, StoreConf&) {
  ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                     "\"experiment_store\" with TLS: this nginx was built without it, expected --with-http_ssl_module");
  return conf_error();
}
bool begin_tls(const StoreConf&, ngx_connection_t*, const std::string&) {
  return false;
}
std::string refused_certificate(const StoreConf&, ngx_connection_t*, const std::string&) {
  return "TLS is not in this build";
}
void end_tls(ngx_connection_t*) noexcept {}

#endif

}  // namespace experiment::ngx
