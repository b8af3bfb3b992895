#include "ctl/keygen.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "shared/key_ring.h"
#include "shared/state_files.h"

namespace experiment::ctl {
namespace {

constexpr std::size_t kMaxBytes = 65536;
constexpr int kAttempts = 100;  // one key of a few dozen has the id of another

// The key's line of a whole key file.
std::string last_line(const std::string& text) {
  if (text.empty()) return {};
  const std::size_t before = text.rfind('\n', text.size() - 2);
  return text.substr(before + 1);
}

// Why the file would be no key ring with this text at its end; empty: it would.
std::string refusal(const std::string& text, const std::string& more) {
  std::string error;
  return shared::KeyRing::parse(text + more, error) ? std::string() : error;
}

std::string append(const std::string& file, const std::string& text) {
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return shared::describe_error(file, errno);
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd) == 0;
  const int error = errno;
  ::close(fd);
  return written ? std::string() : shared::describe_error(file, error == 0 ? EIO : error);
}

// What is appended to a file that holds `text`; empty, and why in `error`.
std::string fresh_key(const shared::FileText& before, std::string& error) {
  const bool missing = before.stamp.error == ENOENT;
  for (int attempt = 1; attempt <= kAttempts; ++attempt) {
    const std::optional<std::string> fresh = shared::generate_key_file();
    if (!fresh) {
      error = "the system has no randomness to give";
      return {};
    }
    std::string more = missing ? *fresh : last_line(*fresh);
    if (!before.text.empty() && before.text.back() != '\n') more.insert(0, "\n");
    error = refusal(before.text, more);
    if (error.empty()) return more;
  }
  return {};
}

}  // namespace

int keygen(const std::string& file, Output& output) {
  std::string error;
  if (file.empty()) {
    const std::string line = last_line(fresh_key({}, error));
    if (!error.empty()) return output.fail(kUnreachable, error + "; no key was made");
    return output.done(line, {{"key", line.substr(0, line.size() - 1)}});
  }
  const shared::FileText before = shared::read_file(file, kMaxBytes);
  if (!before.error.empty() && before.stamp.error != ENOENT) return output.fail(kUnreachable, before.error);
  const std::string more = fresh_key(before, error);
  if (!error.empty()) return output.fail(kRefused, file + ": " + error + "; nothing was appended");
  error = append(file, more);
  if (!error.empty()) return output.fail(kUnreachable, error);
  struct stat status;
  if (::stat(file.c_str(), &status) == 0 && (status.st_mode & 077) != 0) {
    output.warn(file + ": others than its owner may use it, expected mode 0600");
  }
  const std::size_t keys = shared::KeyRing::parse(before.text + more, error)->size();
  const std::string text = file + ": " + std::to_string(keys) + (keys == 1 ? " key\n" : " keys; the first signs\n");
  return output.done(text, {{"file", file}, {"keys", keys}});
}

}  // namespace experiment::ctl
