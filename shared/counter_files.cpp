#include "shared/counter_files.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "shared/checked_json.h"

namespace experiment::shared {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{256} << 20;
constexpr std::int64_t kDeadAfterNs = std::int64_t{10} * 60 * 1'000'000'000;
constexpr int kClaimAttempts = 5;
constexpr std::string_view kFolder = "counters";
constexpr std::string_view kJson = ".json", kLock = ".lock";

// The counters of the instance that the file is named after.
std::optional<Counters> decode_copy(const FileText& file, const std::string& path, const std::string& instance,
                                    std::string& fault) {
  fault = file.error;
  if (!fault.empty()) return std::nullopt;
  std::string error;
  std::optional<DecodedCounters> decoded = decode_counters(file.text, error);
  if (decoded && decoded->instance == instance) return std::move(decoded->counters);
  fault = path + ": refused: " + (decoded ? "counters of instance " + decoded->instance : error);
  return std::nullopt;
}

}  // namespace

FileLock hold_instance(const std::string& state_directory, const std::string& instance) {
  const std::string folder = StateDirectory(state_directory).file(kFolder);
  if (!ensure_directory(folder).empty()) return FileLock();
  return FileLock(folder + "/" + instance + std::string(kLock), FileLock::Mode::kShared, 1);
}

CounterFiles::CounterFiles(StateDirectory& directory, std::string instance, Gone gone)
    : directory_(directory),
      folder_(directory.file(kFolder)),
      instance_(std::move(instance)),
      gone_(gone),
      folded_file_(folder_ + "/folded.json", kMaxBytes),
      own_file_(path_of(instance_, kJson), kMaxBytes) {}

std::string CounterFiles::path_of(std::string_view instance, std::string_view ending) const {
  return folder_ + "/" + std::string(instance) + std::string(ending);
}

void CounterFiles::exchange(const Exchange& wants, Answer& answer) {
  look_at_others(answer);
  if (wants.counters && !is_instance(instance_)) {
    answer.errors.push_back(folder_ + ": instance \"" + instance_ +
                            "\" is not 22 base64url characters; counters not written");
  } else if (wants.counters) {
    using Wait = StateDirectory::Wait;
    write_own(*wants.counters, wants.counters_only ? Wait::kForLastTime : Wait::kForNow, answer);
    if (answer.counters_written) answer.own = own_;
    if (alive_.held() && gone_ == Gone::kFold) fold_dead(answer);
  }
  sum_others(wants, answer);
}

// The folded sum is read last: an instance that is folded meanwhile is then seen in one of both, and never counted in
// both.
void CounterFiles::look_at_others(Answer& answer) {
  std::string error;
  std::map<std::string, Copy, std::less<>> seen;
  for (const std::string& name : list_directory(folder_, error)) {
    if (name.size() != kInstanceLength + kJson.size() || name.substr(kInstanceLength) != kJson) continue;
    const std::string instance = name.substr(0, kInstanceLength);
    if (!is_instance(instance) || instance == instance_) continue;
    auto known = others_.extract(instance);
    const std::string path = path_of(instance, kJson);
    Copy copy = known ? std::move(known.mapped()) : Copy{WatchedFile(path, kMaxBytes), {}, {}};
    if (const std::optional<FileText> news = copy.file.news()) {
      if (news->stamp.error == ENOENT) continue;
      std::optional<Counters> counters = decode_copy(*news, path, instance, copy.fault);
      if (counters) copy.counters = std::move(*counters);
    }
    seen.emplace(instance, std::move(copy));
  }
  if (!error.empty()) {
    answer.errors.push_back(error + "; other instances are not counted");
    return;
  }
  others_ = std::move(seen);
  look_at_folded(false);
}

void CounterFiles::look_at_folded(bool in_any_case) {
  const std::optional<FileText> news = folded_file_.news(in_any_case);
  if (!news) return;
  if (news->stamp.error == ENOENT) {
    folded_ = {};
    folded_fault_.clear();
    return;
  }
  std::string error = news->error;
  std::optional<FoldedCounters> folded = error.empty() ? decode_folded(news->text, error) : std::nullopt;
  folded_fault_.clear();
  if (folded) {
    folded_ = std::move(*folded);
  } else {
    folded_fault_ = news->error.empty() ? folded_file_.path() + ": refused: " + error : error;
  }
}

std::uint64_t CounterFiles::mark_of_others() const {
  std::string seen = folded_file_.digest();
  for (const auto& [instance, copy] : others_) seen.append(instance).append(copy.file.digest());
  return std::max<std::uint64_t>(1, hash_text(seen));
}

void CounterFiles::sum_others(const Exchange& wants, Answer& answer) const {
  if (!folded_fault_.empty()) {
    answer.errors.push_back(folded_fault_ + "; totals of instances that are gone stay as last read, and none is added");
  }
  for (const auto& [instance, copy] : others_) {
    if (!copy.fault.empty()) answer.errors.push_back(copy.fault + "; its counts stay as last read");
  }
  answer.others_mark = mark_of_others();
  if (answer.others_mark == wants.known_others) return;
  Counters sum = folded_.counters;
  for (const auto& [instance, copy] : others_) {
    if (folded_.instances.count(instance) == 0) add(sum, copy.counters);
  }
  answer.others = std::move(sum);
}

void CounterFiles::write_own(const Counters& offered, StateDirectory::Wait wait, Answer& answer) {
  look_at_own(false, answer);
  Counters merged = own_;
  merge_max(merged, offered);
  answer.counters_written = alive_.held() && own_stored_ && merged == own_ && folded_.instances.count(instance_) == 0;
  if (answer.counters_written) return;

  const FileLock lock = directory_.lock(wait);
  std::string error = lock.held() ? ensure_directory(folder_) : lock.error();
  if (!error.empty()) {
    answer.errors.push_back(error + "; counters not written");
    return;
  }
  if (!claim(answer)) return;
  look_at_own(true, answer);
  merge_max(own_, merged);
  own_stored_ = false;
  error = replace_file(own_file_.path(), encode_counters(instance_, own_));
  if (error.empty()) {
    own_file_.news(true);  // what this object wrote itself is no news
    answer.counters_written = own_stored_ = true;
  } else {
    answer.errors.push_back(error + "; counters not written, they wait in the zone");
  }
}

// Requires: the directory's lock is held.
bool CounterFiles::claim(Answer& answer) {
  if (!alive_.held()) {
    alive_ = FileLock(path_of(instance_, kLock), FileLock::Mode::kShared, kClaimAttempts);
    if (!alive_.held()) {
      answer.errors.push_back(alive_.error() + "; counters not written");
      return false;
    }
  }
  look_at_folded(true);
  if (folded_.instances.count(instance_) == 0) return true;
  alive_ = FileLock();
  answer.errors.push_back(
      folded_file_.path() + ": instance " + instance_ +
      " was taken for dead and folded; counters not written, it must go on under a new instance id");
  return false;
}

void CounterFiles::look_at_own(bool in_any_case, Answer& answer) {
  const std::optional<FileText> news = own_file_.news(in_any_case);
  if (!news) return;
  own_stored_ = false;
  if (news->stamp.error == ENOENT) return;
  std::string fault;
  const std::optional<Counters> stored = decode_copy(*news, own_file_.path(), instance_, fault);
  if (stored) {
    merge_max(own_, *stored);
    own_stored_ = own_ == *stored;
    return;
  }
  std::string error;
  const std::string aside = news->error.empty() ? set_aside(own_file_.path(), error) : std::string();
  answer.errors.push_back(fault + (aside.empty() ? "; replaced" : "; kept as " + aside) +
                          ": counts of the past that the zone has dropped are missing from now on");
}

void CounterFiles::fold_dead(Answer& answer) {
  if (!folded_fault_.empty()) return;
  for (const auto& [instance, copy] : others_) {
    // One at a time: each costs an fsync.
    if (copy.fault.empty() && copy.file.stamp().age_ns() > kDeadAfterNs && fold(instance, answer)) break;
  }
  look_at_others(answer);
}

std::vector<CounterFiles::Retired> CounterFiles::retired() const {
  std::vector<Retired> retired;
  for (const auto& [instance, copy] : others_) {
    if (!copy.fault.empty() || folded_.instances.count(instance) != 0) continue;
    const FileLock nobody(path_of(instance, kLock), FileLock::Mode::kExclusive, 1);
    if (nobody.held()) retired.push_back({instance, &copy.counters, copy.file.stamp().age_ns()});
  }
  return retired;
}

void CounterFiles::remove(const std::string& instance) {
  remove_file(path_of(instance, kJson));
  remove_file(path_of(instance, kLock));
}

// Returns whether the instance is counted among the folded ones from now on.
bool CounterFiles::fold(const std::string& instance, Answer& answer) {
  const std::string lock_path = path_of(instance, kLock);
  const FileLock nobody(lock_path, FileLock::Mode::kExclusive, 1);
  if (!nobody.held()) return false;  // alive, with nothing new to write
  const FileLock lock = directory_.lock();
  if (!lock.held()) return false;
  look_at_folded(true);
  if (!folded_fault_.empty()) return false;
  const std::string path = path_of(instance, kJson);
  if (folded_.instances.count(instance) == 0) {
    std::string fault;
    const std::optional<Counters> counters = decode_copy(read_file(path, kMaxBytes), path, instance, fault);
    if (!counters) return false;
    FoldedCounters next = folded_;
    next.instances.insert(instance);
    add(next.counters, *counters);
    const std::string error = replace_file(folded_file_.path(), encode_folded(next));
    if (!error.empty()) {
      answer.errors.push_back(error + "; instance " + instance + " keeps a file of its own");
      return false;
    }
  }
  remove_file(path);
  remove_file(lock_path);
  return true;
}

}  // namespace experiment::shared
