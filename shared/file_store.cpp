#include "shared/file_store.h"

#include <exception>
#include <utility>

namespace experiment::shared {

FileStore::FileStore(std::string directory, std::string instance)
    : directory_(std::move(directory)),
      edge_(!instance.empty()),
      documents_(directory_),
      runtime_(directory_),
      counters_(directory_, instance),
      edges_(directory_, std::move(instance)),
      audit_(directory_) {}

Answer FileStore::exchange(const Exchange& wants) {
  Answer answer;
  const auto part = [&](auto& files) {
    try {
      files.exchange(wants, answer);
    } catch (const std::exception& problem) {  // memory ran out; the other parts still hold
      answer.errors.push_back(directory_.file("") + ": " + problem.what() + "; tried again at the next exchange");
    }
  };
  if (edge_ && !left_ && !wants.counters_only) leave_fleet();
  // Kills first: they must not wait for a slow disk to take the counters.
  if (!wants.counters_only) {
    part(runtime_);
    part(documents_);
  }
  part(counters_);
  if (!wants.counters_only) part(edges_);
  return answer;
}

// A node that is one of its own again: what it does from now on is not the fleet's, should it come back to it.
void FileStore::leave_fleet() {
  const EdgeDirectory belongs(directory_);
  left_ = belongs.store().empty();
  if (left_) return;
  const FileLock lock = directory_.lock();
  if (lock.held()) belongs.leave();
}

std::optional<StoredDocument> FileStore::last_good() {
  try {
    return documents_.last_good();
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

// Of what a tool asks: its answer, or in `error` that memory ran out.
template <typename Function>
auto FileStore::answered(std::string& error, Function function) -> decltype(function()) {
  try {
    return function();
  } catch (const std::exception& problem) {
    error = directory_.file("") + ": " + problem.what();
    return decltype(function())();
  }
}

Published FileStore::publish(const Publication& publication) {
  std::string error;
  Published published = answered(error, [&] { return documents_.publish(publication); });
  if (!error.empty()) published.error = error;
  return published;
}

std::vector<DocumentVersion> FileStore::history(std::string& error) {
  return answered(error, [&] { return documents_.history(error); });
}

void FileStore::record(const AuditEntry& entry, std::string& error) {
  answered(error, [&] { audit_.record(entry, error); });
}

std::vector<AuditEntry> FileStore::audit(std::size_t most, std::string& error) {
  return answered(error, [&] { return audit_.read(most, error); });
}

std::vector<EdgeReport> FileStore::edges(std::string& error) {
  return answered(error, [&] { return edges_.read(error); });
}

}  // namespace experiment::shared
