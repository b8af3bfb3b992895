// TLS to the fleet's Redis: what is loaded when the configuration is read, and what a connection is held to.
//
// A server must show a certificate that the CA has signed, that is valid now, and that has the server's name or
// address. Anything else is refused before a byte of ours goes out; there is no way back to plain text.
#pragma once

#include <string>

#include "ngx_module/store_conf.h"

namespace experiment::ngx {

// Fills store.tls. Errors are logged and returned as configuration errors.
char* load_tls(ngx_conf_t* cf, StoreConf& store);
// Makes a connected socket one with TLS, for ngx_ssl_handshake. False: out of memory.
bool begin_tls(const StoreConf& store, ngx_connection_t* c, const std::string& host);
// After the handshake, be it well or not. Returns: why this is not the server that was meant; empty: it is.
std::string refused_certificate(const StoreConf& store, ngx_connection_t* c, const std::string& host);
// Before the socket is closed.
void end_tls(ngx_connection_t* c) noexcept;

}  // namespace experiment::ngx
