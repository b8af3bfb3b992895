// Real Redis servers of tests: each with a folder and a port of its own on the loopback address, ended by its pid when
// the object goes, and by the kernel should the test's process end first.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "ctl/redis_socket.h"
#include "shared/redis_reply.h"
#include "shared/redis_url.h"

namespace experiment::shared {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "redis-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ + "/" + name) << text;
    return path_ + "/" + name;
  }

 private:
  std::string path_;
};

// A port that nobody listens on now; below those that the kernel gives to clients, so that none comes in between.
inline std::uint16_t free_port() {
  static std::mt19937 random(std::random_device{}());
  for (;;) {
    const auto port = static_cast<std::uint16_t>(20000 + random() % 12000);
    const int one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(one, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    const bool free = bind(one, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    close(one);
    if (free) return port;
  }
}

// Waits for a condition, at most `seconds`. Returns: whether it came.
inline bool wait_until(const std::function<bool()>& holds, double seconds = 20) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

// Deadlines that a machine with much else to do keeps, too.
inline RedisAccess patient(RedisAccess access = {}) {
  access.connect_ms = access.command_ms = 5000;
  return access;
}

// One command. A fault of the link is an error reply that begins with "LINK ".
inline RedisReply command(RedisLink& link, const RedisEndpoint& to, const std::vector<std::string_view>& words) {
  RedisRoundTrip trip = link.round_trip(to, {format_command(words)});
  if (trip.error.empty()) return trip.replies.at(0);
  RedisReply reply;
  reply.kind = RedisReply::Kind::kError;
  reply.text = "LINK " + trip.error;
  return reply;
}

// A program that ends with the object.
class ChildProcess {
 public:
  ChildProcess() = default;
  ~ChildProcess() { end(SIGKILL); }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  void start(std::vector<std::string> words) {
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    const int nowhere = open("/dev/null", O_RDWR);
    for (const int stream : {0, 1, 2}) dup2(nowhere, stream);
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  void signal(int number) const { kill(pid_, number); }
  // By a signal, also if it is stopped; waits for the end.
  void end(int number) {
    if (pid_ <= 0) return;
    kill(pid_, number);
    kill(pid_, SIGCONT);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  bool ended() {
    if (pid_ > 0 && waitpid(pid_, nullptr, WNOHANG) == pid_) pid_ = 0;
    return pid_ <= 0;
  }

 private:
  pid_t pid_ = 0;
};

class RedisProcess {
 public:
  // Each option is a word, as "--appendonly", "yes".
  explicit RedisProcess(std::vector<std::string> options = {}) : options_(std::move(options)) { start(); }
  void add_options(const std::vector<std::string>& more) { options_.insert(options_.end(), more.begin(), more.end()); }

  RedisEndpoint endpoint() const { return {"127.0.0.1", port_, {}}; }
  RedisEndpoint socket() const { return {{}, 0, folder_.path() + "/socket"}; }
  const TemporaryFolder& folder() const { return folder_; }
  std::uint16_t cluster_port() const { return cluster_port_; }  // of a cluster's node, for the others

  // As a client without a password.
  RedisReply run(const std::vector<std::string_view>& words) { return command(link_, socket(), words); }

  void signal(int number) const { process_.signal(number); }
  void end(int number) { process_.end(number); }
  // Again on the same port with what was saved; waits until it answers, be it that it is loading.
  void start() {
    for (int attempt = 0; attempt < 5; ++attempt) {
      if (port_ == 0) port_ = free_port();
      launch();
      wait_until([this] { return process_.ended() || run({"PING"}).text.find("LINK ") != 0; });
      if (!process_.ended()) return;
      if (attempt > 0) port_ = 0;  // somebody else was faster, it seems
    }
    throw std::runtime_error("redis-server does not start");
  }

 private:
  void launch() {
    std::vector<std::string> words = {"redis-server",
                                      "--port",
                                      std::to_string(port_),
                                      "--bind",
                                      "127.0.0.1",
                                      "--dir",
                                      folder_.path(),
                                      "--unixsocket",
                                      socket().socket,
                                      "--save",
                                      "",
                                      "--logfile",
                                      folder_.path() + "/log",
                                      "--repl-diskless-sync-delay",
                                      "0",
                                      "--enable-debug-command",
                                      "yes"};
    words.insert(words.end(), options_.begin(), options_.end());
    if (std::find(words.begin(), words.end(), "--cluster-enabled") != words.end()) {
      cluster_port_ = free_port();
      words.insert(words.end(), {"--cluster-port", std::to_string(cluster_port_)});
    }
    process_.start(words);
  }

  TemporaryFolder folder_;
  std::vector<std::string> options_;
  std::uint16_t port_ = 0, cluster_port_ = 0;
  ChildProcess process_;
  ctl::RedisSocket link_{patient()};
};

}  // namespace experiment::shared
