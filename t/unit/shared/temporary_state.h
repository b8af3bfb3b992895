// A state directory of a test.
#pragma once

#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <vector>

namespace experiment::shared {

// A state directory that does not exist yet, in a folder that goes away with the object.
class TemporaryState {
 public:
  TemporaryState() {
    std::string pattern = (std::filesystem::temp_directory_path() / "file_store_XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryState() {
    std::error_code ignored;
    std::filesystem::permissions(directory(), std::filesystem::perms::owner_all, ignored);
    std::filesystem::remove_all(root_, ignored);
  }
  std::string directory() const { return root_ + "/state"; }
  std::string file(const std::string& name) const { return directory() + "/" + name; }
  void make() const { std::filesystem::create_directory(directory()); }
  std::string read(const std::string& name) const {
    std::ifstream in(file(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& name, const std::string& text) const {  // in place, as some editors do
    std::ofstream(file(name), std::ios::binary | std::ios::trunc) << text;
  }
  void make_old(const std::string& name, std::chrono::seconds by) const {
    std::filesystem::last_write_time(file(name), std::filesystem::last_write_time(file(name)) - by);
  }
  std::vector<std::string> names(const std::string& folder) const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(file(folder))) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  std::string root_;
};

}  // namespace experiment::shared
