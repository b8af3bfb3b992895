#include "ctl/doctor_directory.h"

#include <sys/stat.h>

#include <cerrno>
#include <set>

#include "shared/key_ring.h"
#include "shared/state_files.h"

namespace experiment::ctl {
namespace {

constexpr std::size_t kMaxKeyBytes = 65536;

class Directory {
 public:
  explicit Directory(const std::string& path) : path_(path) {
    if (::stat(path.c_str(), &status_) != 0) status_ = {};
  }

  std::vector<Finding> examine(const std::vector<Edge>& edges) {
    if ((status_.st_mode & S_IWOTH) != 0) {
      add(path_ + ": everybody on this machine may write there", "chmod o-w " + path_);
    }
    std::string error;
    for (const std::string& name : shared::list_directory(path_, error)) {
      if (name != "." && name != "..") examine_file(name);
    }
    if (!error.empty()) add(error, "run this as the owner of the directory or as root");
    examine_keys(edges);
    return std::move(findings_);
  }

 private:
  void add(const std::string& what, const std::string& fix) { findings_.push_back({what, fix}); }

  // Nodes write as the directory's owner, by rename; the document is the only file that others may own.
  void examine_file(const std::string& name) {
    const std::string path = path_ + "/" + name;
    struct stat file;
    if (::lstat(path.c_str(), &file) != 0) return;
    if (name.find(".corrupt-") != std::string::npos) {
      add(path + ": a damaged file that was set aside", "see what it holds (kills?), and move it away");
    } else if (S_ISLNK(file.st_mode)) {
      add(path + ": a symbolic link; publish does not replace it",
          "put a file in its place, or publish where it points");
    } else if (name == "definitions.json") {
      const bool readable = file.st_uid == status_.st_uid || (file.st_mode & S_IROTH) != 0 ||
                            (file.st_gid == status_.st_gid && (file.st_mode & S_IRGRP) != 0);
      if (!readable) add(path + ": the owner of " + path_ + " may not read it", "chmod a+r " + path);
    } else if (file.st_uid != status_.st_uid) {
      add(path + ": belongs to another user than " + path_ + "; nodes may fail to use it",
          "chown --reference=" + path_ + " " + path);
    }
    if (name == "keys" && (file.st_mode & 077) != 0) {
      add(path + ": others than its owner may use the keys", "chmod 600 " + path);
    }
  }

  void examine_keys(const std::vector<Edge>& edges) {
    const std::string path = path_ + "/keys";
    const shared::FileText file = shared::read_file(path, kMaxKeyBytes);
    std::set<std::string> rings;
    for (const Edge& edge : edges) {
      if (edge.speaks() && !edge.keys.empty()) rings.insert(edge.keys);
    }
    if (file.stamp.error == ENOENT) {
      if (rings.empty()) add(path + ": missing, and no edge says that it has keys", "start nginx, which makes it");
      return;
    }
    std::string error = file.error;
    if (error.empty() && !shared::KeyRing::parse(file.text, error)) error = path + ": " + error;
    if (file.stamp.error == EACCES) {
      add(error, "run this as the owner of the directory or as root");
    } else if (!error.empty()) {
      add(error, "restore it from a copy; without it the cookies that it signed are worthless");
    }
  }

  std::string path_;
  struct stat status_ {};
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> examine_directory(const std::string& directory, const std::vector<Edge>& edges) {
  return Directory(directory).examine(edges);
}

}  // namespace experiment::ctl
