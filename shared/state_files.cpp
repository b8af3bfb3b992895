#include "shared/state_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>

#include "shared/checked_json.h"

namespace experiment::shared {
namespace {

constexpr mode_t kFileMode = 0640;
constexpr mode_t kPrivateMode = 0600;
constexpr mode_t kDirectoryMode = 0750;
constexpr auto kLockPause = std::chrono::milliseconds(10);
constexpr std::int64_t kSettledAfterNs = 2'000'000'000;  // the coarsest clock of a file system in use
constexpr int kSetAside = 100;
constexpr std::string_view kTemporary = ".tmp";

// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

 private:
  int fd_;
};

std::int64_t nanoseconds(const struct timespec& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

FileStamp stamp_from(const struct stat& status) {
  return {0, status.st_ino, static_cast<std::uint64_t>(status.st_size), nanoseconds(status.st_mtim),
          nanoseconds(status.st_ctim)};
}

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// What root makes in a directory belongs to the directory's owner, best effort: a tool run by root must not lock out
// the workers.
void give_to_owner(int fd, const std::string& directory) {
  struct stat status;
  if (::geteuid() != 0 || ::stat(directory.c_str(), &status) != 0) return;
  if (::fchown(fd, status.st_uid, status.st_gid) != 0)
    return;  // a file system without owners: nobody is locked out there
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written < 0 ? errno : EIO;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

// Makes `path` anew with this text on the disk. Returns errno or 0.
int write_new(const std::string& path, std::string_view text, mode_t mode) {
  ::unlink(path.c_str());
  const Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!file.valid()) return errno;
  int error = ::fchmod(file.get(), mode) == 0 ? 0 : errno;  // whatever the umask is
  if (mode != kPrivateMode) give_to_owner(file.get(), parent_of(path));
  if (error == 0) error = write_all(file.get(), text);
  if (error == 0 && ::fsync(file.get()) != 0) error = errno;
  return error;
}

int sync_directory(const std::string& directory) {
  const Descriptor names(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return names.valid() && ::fsync(names.get()) == 0 ? 0 : errno;
}

std::string replace(const std::string& path, std::string_view text, mode_t mode) {
  const std::string temporary = path + std::string(kTemporary);
  int error = write_new(temporary, text, mode);
  if (error == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) error = errno;
  if (error != 0) {
    ::unlink(temporary.c_str());
    return describe_error(path, error);
  }
  const std::string directory = parent_of(path);
  error = sync_directory(directory);
  return error == 0 ? std::string() : describe_error(directory, error);
}

}  // namespace

std::int64_t FileStamp::age_ns() const {
  if (!exists()) return 0;
  struct timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  return nanoseconds(now) - modified_ns;
}

bool FileStamp::settled() const {
  if (!exists()) return true;
  return std::min(std::llabs(age_ns()), std::llabs(age_ns() + modified_ns - changed_ns)) > kSettledAfterNs;
}

bool operator==(const FileStamp& a, const FileStamp& b) {
  return std::tie(a.error, a.inode, a.size, a.modified_ns, a.changed_ns) ==
         std::tie(b.error, b.inode, b.size, b.modified_ns, b.changed_ns);
}

std::string describe_error(const std::string& path, int error) {
  return path + ": " + std::generic_category().message(error);
}

FileStamp stamp_of(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return {errno, 0, 0, 0, 0};
  return stamp_from(status);
}

FileText read_file(const std::string& path, std::size_t limit) {
  FileText out;
  // O_NONBLOCK: a named pipe in the file's place must not hang the reader.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status;
  if (!file.valid() || ::fstat(file.get(), &status) != 0) {
    out.stamp.error = errno;
    out.error = describe_error(path, errno);
    return out;
  }
  out.stamp = stamp_from(status);
  if (!S_ISREG(status.st_mode)) {
    out.error = path + ": not a regular file";
    return out;
  }
  if (out.stamp.size > limit) {
    out.error = path + ": " + std::to_string(out.stamp.size) + " bytes, expected at most " + std::to_string(limit);
    return out;
  }
  out.text.resize(out.stamp.size);
  std::size_t length = 0;
  while (length < out.text.size()) {
    const ssize_t got = ::read(file.get(), out.text.data() + length, out.text.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) out.error = describe_error(path, errno);
    if (got <= 0) break;
    length += static_cast<std::size_t>(got);
  }
  // A file that changes under the reader is read again at the next look: its stamp is too young to count as settled.
  out.text.resize(length);
  return out;
}

std::optional<FileText> WatchedFile::news(bool in_any_case) {
  const FileStamp before = stamp_of(path_);
  if (looked_ && settled_ && !in_any_case && before == stamp_) return std::nullopt;
  const bool settled = before.settled();  // judged before the read: a write behind it must show
  FileText now = read_file(path_, limit_);
  std::string digest = digest_text(now.text);
  const bool same = looked_ && now.error == error_ && digest == digest_;
  looked_ = true;
  settled_ = settled && now.stamp == before;
  stamp_ = now.stamp;
  error_ = now.error;
  digest_ = std::move(digest);
  if (same) return std::nullopt;
  return now;
}

FileLock::FileLock(const std::string& path, Mode mode, int attempts) {
  // O_RDONLY is enough for flock, and all that a member of the group may have.
  fd_ = ::open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, kFileMode);
  if (fd_ >= 0) {
    give_to_owner(fd_, parent_of(path));
  } else if (errno == EEXIST) {
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  }
  if (fd_ < 0) {
    error_ = describe_error(path, errno);
    return;
  }
  const int operation = (mode == Mode::kShared ? LOCK_SH : LOCK_EX) | LOCK_NB;
  for (int attempt = 1; ::flock(fd_, operation) != 0; ++attempt) {
    const int error = errno;
    busy_ = error == EWOULDBLOCK;
    if ((busy_ || error == EINTR) && attempt < attempts) {
      std::this_thread::sleep_for(kLockPause);
      continue;
    }
    error_ = busy_ ? path + ": held by another process" : describe_error(path, error);
    ::close(fd_);
    fd_ = -1;
    return;
  }
  busy_ = false;
}

FileLock::FileLock(FileLock&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), busy_(other.busy_), error_(std::move(other.error_)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(busy_, other.busy_);
  std::swap(error_, other.error_);
  return *this;
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

std::string ensure_directory(const std::string& path) {
  if (::mkdir(path.c_str(), kDirectoryMode) != 0) {
    if (errno != EEXIST) return describe_error(path, errno);
    return {};
  }
  const Descriptor made(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (made.valid()) give_to_owner(made.get(), parent_of(path));
  return {};
}

std::string replace_file(const std::string& path, std::string_view text) {
  return replace(path, text, kFileMode);
}

std::string replace_private_file(const std::string& path, std::string_view text) {
  return replace(path, text, kPrivateMode);
}

std::string append_to_file(const std::string& path, std::string_view text) {
  constexpr int kFlags = O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW;
  int fd = ::open(path.c_str(), kFlags | O_CREAT | O_EXCL, kFileMode);
  const bool made = fd >= 0;
  if (!made && errno == EEXIST) fd = ::open(path.c_str(), kFlags);
  const Descriptor file(fd);
  struct stat before;
  if (!file.valid() || ::fstat(file.get(), &before) != 0) return describe_error(path, errno);
  if (made && ::fchmod(file.get(), kFileMode) != 0) return describe_error(path, errno);  // whatever the umask is
  if (made) give_to_owner(file.get(), parent_of(path));
  char last = '\n';
  if (before.st_size > 0 && ::pread(file.get(), &last, 1, before.st_size - 1) != 1) return describe_error(path, errno);
  int error = last == '\n' ? 0 : write_all(file.get(), "\n");
  if (error == 0) error = write_all(file.get(), text);
  if (error == 0 && ::fsync(file.get()) != 0) error = errno;
  if (error == 0 && made) error = sync_directory(parent_of(path));
  if (error == 0) return {};
  if (::ftruncate(file.get(), before.st_size) != 0) return describe_error(path, error) + ", and a part of it stays";
  return describe_error(path, error);
}

bool is_symbolic_link(const std::string& path) {
  struct stat status;
  return ::lstat(path.c_str(), &status) == 0 && S_ISLNK(status.st_mode);
}

std::string set_aside(const std::string& path, std::string& error) {
  for (int n = 1; n <= kSetAside; ++n) {
    const std::string aside = path + ".corrupt-" + std::to_string(n);
    if (::link(path.c_str(), aside.c_str()) == 0) {  // unlike rename, it replaces nothing
      if (::unlink(path.c_str()) == 0) return aside;
      error = describe_error(path, errno);
      return {};
    }
    if (errno != EEXIST) break;
  }
  error = describe_error(path, errno);
  return {};
}

void remove_file(const std::string& path) {
  ::unlink(path.c_str());
}

std::vector<std::string> list_directory(const std::string& path, std::string& error) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
  if (directory == nullptr) {
    if (errno != ENOENT) error = describe_error(path, errno);
    return names;
  }
  while (const struct dirent* entry = ::readdir(directory.get())) names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  return names;
}

void remove_temporaries(const std::string& directory) {
  std::string error;  // what cannot be listed cannot be written either, and that is reported
  for (const std::string& name : list_directory(directory, error)) {
    if (ends_with(name, kTemporary)) ::unlink((directory + "/" + name).c_str());
  }
}

}  // namespace experiment::shared
