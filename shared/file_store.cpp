#include "shared/file_store.h"

#include <exception>
#include <utility>

namespace experiment::shared {

FileStore::FileStore(std::string directory, std::string instance)
    : directory_(std::move(directory)),
      documents_(directory_),
      runtime_(directory_),
      counters_(directory_, std::move(instance)) {}

Answer FileStore::exchange(const Exchange& wants) {
  Answer answer;
  const auto part = [&](auto& files) {
    try {
      files.exchange(wants, answer);
    } catch (const std::exception& problem) {  // memory ran out; the other parts still hold
      answer.errors.push_back(directory_.file("") + ": " + problem.what() + "; tried again at the next exchange");
    }
  };
  // Kills first: they must not wait for a slow disk to take the counters.
  if (!wants.counters_only) {
    part(runtime_);
    part(documents_);
  }
  part(counters_);
  return answer;
}

std::optional<StoredDocument> FileStore::last_good() {
  try {
    return documents_.last_good();
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

Published FileStore::publish(const Publication&) {
  return {};
}
std::vector<DocumentVersion> FileStore::history(std::string&) {
  return {};
}
void FileStore::record(const AuditEntry&, std::string&) {}
std::vector<AuditEntry> FileStore::audit(std::size_t, std::string&) {
  return {};
}
std::vector<EdgeReport> FileStore::edges(std::string&) {
  return {};
}

}  // namespace experiment::shared
