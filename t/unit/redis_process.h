// A real redis-server in a folder of its own, on a unix socket; it ends with the object.
#pragma once

#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

extern char** environ;

namespace experiment {

class RedisProcess {
 public:
  RedisProcess() {
    std::string pattern = (std::filesystem::temp_directory_path() / "experiment_redis_XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    start();
  }
  RedisProcess(const RedisProcess&) = delete;
  RedisProcess& operator=(const RedisProcess&) = delete;
  ~RedisProcess() {
    stop();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  const std::string& folder() const { return folder_; }
  std::string socket() const { return folder_ + "/redis.sock"; }
  std::string url() const { return "unix:" + socket(); }

  void start() {
    const std::vector<std::string> words{"redis-server",  "--port", "0", "--unixsocket", socket(), "--dir",
                                         folder_,         "--save", "",  "--appendonly", "no",     "--logfile",
                                         folder_ + "/log"};
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    if (::posix_spawnp(&pid_, argv[0], nullptr, nullptr, argv.data(), environ) != 0) {
      throw std::runtime_error("redis-server cannot be started");
    }
    for (int tries = 0; tries < 500 && !listening(); ++tries)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  // As a power failure: nothing is saved.
  void stop() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
    ::unlink(socket().c_str());
  }

 private:
  bool listening() const {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, socket().c_str(), sizeof(address.sun_path) - 1);
    const bool up = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
    ::close(fd);
    return up;
  }

  std::string folder_;
  pid_t pid_ = 0;
};

}  // namespace experiment
