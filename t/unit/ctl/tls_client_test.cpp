// TLS against real servers with certificates of an authority of our own: who is trusted, and who is not.
#include "ctl/tls_client.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "ctl/redis_socket.h"
#include "t/unit/shared/redis_process.h"

namespace experiment::ctl {
namespace {

using shared::patient;
using shared::RedisAccess;
using shared::RedisEndpoint;
using shared::RedisProcess;
using shared::RedisRoundTrip;

// An authority, what it signed, and what another signed.
class Certificates {
 public:
  Certificates() {
    authority("ca");
    authority("other");
    issue("name", "ca", "subjectAltName=DNS:localhost");
    issue("address", "ca", "subjectAltName=IP:127.0.0.1");
    issue("elsewhere", "ca", "subjectAltName=DNS:elsewhere.example,IP:127.0.0.2");
    issue("wildcard", "ca", "subjectAltName=DNS:l*t");
    issue("expired", "ca", "subjectAltName=DNS:localhost", "-days -1");
    issue("untrusted", "other", "subjectAltName=DNS:localhost");
    issue("client", "ca", "subjectAltName=DNS:edge.example");
  }
  std::string file(const std::string& name) const { return folder_.path() + "/" + name; }

 private:
  void run(const std::string& arguments) const {
    const std::string line = "cd " + folder_.path() + " && openssl " + arguments + " > log 2>&1";
    if (std::system(line.c_str()) != 0) throw std::runtime_error("failed: " + line);
  }
  static std::string key(const std::string& name) {
    return " -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout " + name + ".key ";
  }
  void authority(const std::string& name) const {
    run("req -x509 -days 2 -subj /CN=" + name + key(name) + "-out " + name + ".crt");
  }
  void issue(const std::string& name, const std::string& by, const std::string& extension,
             const std::string& days = "-days 2") const {
    folder_.write(name + ".ext", extension + "\n");
    run("req -new -subj /CN=redis" + key(name) + "-out " + name + ".csr");
    run("x509 -req -in " + name + ".csr -CA " + by + ".crt -CAkey " + by + ".key -CAcreateserial " + days +
        " -extfile " + name + ".ext -out " + name + ".crt");
  }
  shared::TemporaryFolder folder_;
};

class TlsClientTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { certificates_ = std::make_unique<Certificates>(); }
  static void TearDownTestSuite() { certificates_.reset(); }

  TlsClientTest() {
    access_ = patient();
    access_.tls = true;
    access_.ca_file = certificates_->file("ca.crt");
  }
  static std::vector<std::string> options(std::uint16_t port, const std::string& name) {
    return {"--tls-port",         std::to_string(port),
            "--tls-cert-file",    certificates_->file(name + ".crt"),
            "--tls-key-file",     certificates_->file(name + ".key"),
            "--tls-ca-cert-file", certificates_->file("ca.crt")};
  }
  // Returns: what comes of a PING at `host` to a server that shows the certificate `name`; "ok" or why not.
  std::string ping(const std::string& host, const std::string& name,
                   std::vector<std::string> more = {"--tls-auth-clients", "no"}) {
    const std::uint16_t port = shared::free_port();
    std::vector<std::string> all = options(port, name);
    all.insert(all.end(), more.begin(), more.end());
    const RedisProcess server(all);
    return ping_at({host, port, ""});
  }
  std::string ping_at(const RedisEndpoint& to) {
    RedisSocket link(access_);
    trip_ = link.round_trip(to, {shared::format_command({"PING"})});
    if (trip_.error.empty()) return trip_.replies.at(0).text == "PONG" ? "ok" : "no PONG";
    EXPECT_EQ(trip_.error.find(describe(to) + ": "), 0u);
    return trip_.error.substr(describe(to).size() + 2);
  }

  static std::unique_ptr<Certificates> certificates_;
  RedisAccess access_;
  RedisRoundTrip trip_;
};
std::unique_ptr<Certificates> TlsClientTest::certificates_;

TEST_F(TlsClientTest, ServersThatAreWhoTheyShouldBe) {
  EXPECT_EQ(ping("localhost", "name"), "ok");
  EXPECT_EQ(ping("127.0.0.1", "address"), "ok");
  EXPECT_EQ(ping("localhost", "name", {"--tls-auth-clients", "no", "--tls-protocols", "TLSv1.2"}), "ok");
  access_.server_name = "elsewhere.example";
  EXPECT_EQ(ping("127.0.0.1", "elsewhere"), "ok");
}

TEST_F(TlsClientTest, ServersThatAreNot) {
  const std::string not_accepted = "the server's certificate is not accepted: ";
  for (const auto& [host, name, why] : std::initializer_list<std::array<std::string, 3>>{
           {"localhost", "elsewhere", "hostname mismatch"},
           {"127.0.0.1", "elsewhere", "IP address mismatch"},
           {"127.0.0.1", "name", "IP address mismatch"},
           {"localhost", "address", "hostname mismatch"},
           {"localhost", "wildcard", "hostname mismatch"},
           {"localhost", "expired", "certificate has expired"},
           {"localhost", "untrusted", "unable to get local issuer certificate"},
       }) {
    EXPECT_EQ(ping(host, name), not_accepted + why) << host << " " << name;
    EXPECT_TRUE(trip_.away && trip_.refused) << host << " " << name;
  }
  access_.server_name = "other.example";
  EXPECT_EQ(ping("localhost", "name"), not_accepted + "hostname mismatch");
  access_.server_name.clear();
  access_.ca_file.clear();  // the system's do not know ours
  EXPECT_EQ(ping("localhost", "name").find(not_accepted), 0u);
}

TEST_F(TlsClientTest, ClientCertificates) {
  const std::vector<std::string> asked = {"--tls-auth-clients", "yes"};
  EXPECT_EQ(ping("localhost", "name", asked), "TLS failed: tlsv13 alert certificate required");
  EXPECT_TRUE(trip_.refused);
  access_.certificate_file = certificates_->file("client.crt");
  access_.key_file = certificates_->file("client.key");
  EXPECT_EQ(ping("localhost", "name", asked), "ok");
  access_.certificate_file = certificates_->file("untrusted.crt");
  access_.key_file = certificates_->file("untrusted.key");
  EXPECT_EQ(ping("localhost", "name", asked), "TLS failed: tlsv1 alert unknown ca");
  EXPECT_TRUE(trip_.refused);
}

TEST_F(TlsClientTest, NoDowngrade) {
  const RedisProcess plain;
  access_.connect_ms = 500;
  EXPECT_EQ(ping_at(plain.endpoint()), "no TLS in time");  // it waits for the end of a line
  EXPECT_TRUE(trip_.away);
  access_ = patient(access_);
  // Security level 0, or OpenSSL itself would not speak so old a version.
  EXPECT_EQ(ping("localhost", "name",
                 {"--tls-auth-clients", "no", "--tls-protocols", "TLSv1.1", "--tls-ciphers", "ALL:@SECLEVEL=0"}),
            "TLS failed: tlsv1 alert protocol version");
  EXPECT_TRUE(trip_.away && trip_.refused);
}

TEST_F(TlsClientTest, FilesThatCannotBeUsed) {
  const RedisEndpoint nobody{"127.0.0.1", shared::free_port(), ""};
  const RedisProcess server;
  access_.ca_file = "/nowhere/ca.crt";
  EXPECT_EQ(ping_at(server.endpoint()).find("/nowhere/ca.crt cannot be read as certificates of authorities: "), 0u);
  EXPECT_TRUE(trip_.away && trip_.refused);
  access_.ca_file = certificates_->file("ca.crt");
  access_.certificate_file = certificates_->file("client.key");
  access_.key_file = certificates_->file("client.key");
  EXPECT_EQ(ping_at(server.endpoint()).find(access_.certificate_file + " cannot be read as a certificate: "), 0u);
  access_.certificate_file = certificates_->file("client.crt");
  access_.key_file = certificates_->file("name.key");
  EXPECT_EQ(ping_at(server.endpoint()),
            access_.key_file + " cannot be read as the key of " + access_.certificate_file + ": key values mismatch");
  EXPECT_EQ(ping_at(nobody), "no connection: Connection refused");
}

TEST_F(TlsClientTest, AConnectionThatEnds) {
  const std::uint16_t port = shared::free_port();
  std::vector<std::string> all = options(port, "name");
  all.insert(all.end(), {"--tls-auth-clients", "no"});
  RedisProcess server(all);
  RedisSocket link(access_);
  const RedisEndpoint to{"localhost", port, ""};
  const std::string id = std::to_string(shared::command(link, to, {"CLIENT", "ID"}).integer);
  EXPECT_EQ(server.run({"CLIENT", "KILL", "ID", id}).integer, 1);
  EXPECT_TRUE(shared::command(link, to, {"CLIENT", "ID"}).is_integer());
  const std::string big(4'000'000, 'b');
  EXPECT_EQ(shared::command(link, to, {"ECHO", big}).text, big);
  EXPECT_EQ(shared::command(link, to, {"SHUTDOWN"}).text,
            "LINK " + describe(to) + ": the server closed the connection");
}

}  // namespace
}  // namespace experiment::ctl
