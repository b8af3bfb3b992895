// What people ask of a fleet's store: documents of the past, the audit log, what each edge does.
//
// Part of the RedisStore. Nothing here is needed to serve or to learn. Each function is a round trip of its own, but
// for report(), which goes out with others.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "shared/redis_batch.h"
#include "shared/store.h"

namespace experiment::shared {

class RedisRecords {
 public:
  RedisRecords(RedisServers& servers, std::string space) : servers_(servers), space_(std::move(space)) {}

  // Keeps a document that is about to be replaced. Returns an error or nothing.
  std::string keep(const DocumentVersion& document);
  std::vector<DocumentVersion> history(std::string& error);
  void record(const AuditEntry& entry, std::string& error);
  std::vector<AuditEntry> audit(std::size_t most, std::string& error);
  std::vector<EdgeReport> edges(std::string& error);
  // Writes an edge's report where it changed, or the store's copy gets old.
  void report(RedisBatch& batch, const std::string& instance, const std::string& text,
              std::vector<std::string>& errors);

 private:
  using Clock = std::chrono::steady_clock;
  RedisReply ask(const std::string& key, std::vector<std::string> words, std::string& error);

  RedisServers& servers_;
  std::string space_;
  std::string reported_;
  Clock::time_point report_due_{};
};

}  // namespace experiment::shared
