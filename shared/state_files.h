// Files of a state directory: noticed by their stamp, read whole, replaced by rename, written by one process at a time.
//
// Called by the parts of the FileStore, in nginx's thread pool or in a tool. Nothing here throws for a fault of the
// file system: faults are texts that name the path and the reason, and the caller adds what follows from it. No
// globals, no signals, no locale.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace experiment::shared {

// What stat says of a file. Equal stamps mean an unchanged file, once the stamp is settled.
struct FileStamp {
  int error = 0;  // errno of stat; ENOENT: no such file
  std::uint64_t inode = 0, size = 0;
  std::int64_t modified_ns = 0, changed_ns = 0;
  bool exists() const { return error == 0; }
  // False for a stamp so young that a further write might leave it as it is (the clock of a file system ticks in
  // milliseconds, some in seconds). Such a file is read again until its stamp has settled.
  bool settled() const;
  std::int64_t age_ns() const;  // since it changed, by this machine's clock; 0 for a missing file
};
bool operator==(const FileStamp& a, const FileStamp& b);
inline bool operator!=(const FileStamp& a, const FileStamp& b) {
  return !(a == b);
}

FileStamp stamp_of(const std::string& path);

struct FileText {
  FileStamp stamp;
  std::string text;
  std::string error;  // why `text` is not the whole file, with its path; a missing file is an error, too
};
// Reads a regular file of at most `limit` bytes.
FileText read_file(const std::string& path, std::size_t limit);

// A file that is looked at again and again. An idle look costs one stat.
class WatchedFile {
 public:
  WatchedFile(std::string path, std::size_t limit) : path_(std::move(path)), limit_(limit) {}
  // What the file holds now, if that (or why it cannot be read) is not what it was at the last look; the first look
  // always has news. `in_any_case` reads a file whose stamp did not change as well: before a write that depends on it.
  std::optional<FileText> news(bool in_any_case = false);
  const std::string& path() const { return path_; }
  // Of the last look: stamp and digest of the content.
  const FileStamp& stamp() const { return stamp_; }
  const std::string& digest() const { return digest_; }

 private:
  std::string path_;
  std::size_t limit_;
  FileStamp stamp_;
  bool looked_ = false, settled_ = false;
  std::string error_, digest_;
};

// An advisory lock (flock) on a file that is made when it is missing; released when the object goes.
class FileLock {
 public:
  enum class Mode { kShared, kExclusive };
  FileLock() = default;
  // Tries `attempts` times, 10 ms apart: it never waits for long.
  FileLock(const std::string& path, Mode mode, int attempts);
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;
  ~FileLock();

  bool held() const { return fd_ >= 0; }
  bool busy() const { return busy_; }  // not held, because another process holds it
  const std::string& error() const { return error_; }

 private:
  int fd_ = -1;
  bool busy_ = false;
  std::string error_;
};

// Makes a directory (0750) whose parent exists. Returns an error or nothing.
std::string ensure_directory(const std::string& path);
// Replaces `path` by a file with this text, readable by owner and group: temporary file beside it, fsync, rename, fsync
// of the directory. Run by root, it gives the file to the owner of the directory, who has to read it. Requires: the
// directory's lock is held, for the temporary file has a fixed name. Returns an error or nothing; after an error the
// old file stands, but for a failed fsync of the directory.
std::string replace_file(const std::string& path, std::string_view text);
// The same for a file that only its maker may read.
std::string replace_private_file(const std::string& path, std::string_view text);
// Appends to `path`, which is made when it is missing, and has it on the disk; behind a last line that was cut short,
// on a new one. Requires: the directory's lock is held. Returns an error or nothing; after an error the file is as it
// was.
std::string append_to_file(const std::string& path, std::string_view text);
bool is_symbolic_link(const std::string& path);
// Renames a damaged file to the first free of `path`.corrupt-1, -2, ... Returns the new name, or an empty one and the
// error.
std::string set_aside(const std::string& path, std::string& error);
void remove_file(const std::string& path);
// Names in a directory, sorted; none for a directory that is missing.
std::vector<std::string> list_directory(const std::string& path, std::string& error);
// Removes what a writer left that died between temporary file and rename. Requires: the directory's lock is held.
void remove_temporaries(const std::string& directory);

// "PATH: text of errno".
std::string describe_error(const std::string& path, int error);

}  // namespace experiment::shared
