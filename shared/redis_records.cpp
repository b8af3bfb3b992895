#include "shared/redis_records.h"

#include <algorithm>
#include <charconv>

#include "shared/checked_json.h"

namespace experiment::shared {
namespace {

using nlohmann::json;

constexpr std::uint64_t kKept = 100;            // documents of the past
constexpr const char* kAuditEntries = "10000";  // about
constexpr auto kReportAgain = std::chrono::seconds(15);

json to_json(const DocumentVersion& document) {
  return {{"version", document.version}, {"at_s", document.at_s}, {"by", document.by}, {"text", document.text}};
}

std::optional<DocumentVersion> read_document(const std::string& text) {
  const json parsed = json::parse(text, nullptr, false);
  try {
    const StateValue value(parsed);
    return DocumentVersion{value.at("version").number(std::uint64_t{1} << 53), value.at("at_s").time(),
                           value.at("by").text(), value.at("text").text()};
  } catch (const StateError&) {
    return std::nullopt;  // of another version of this software: not ours to tell of
  }
}

// A stream's entry: its id, then names and values.
AuditEntry read_entry(const RedisReply& reply) {
  AuditEntry entry;
  const std::vector<RedisReply> none;
  const auto& words = reply.items.size() == 2 ? reply.items[1].items : none;
  for (std::size_t i = 0; i + 1 < words.size(); i += 2) {
    const std::string &name = words[i].text, &value = words[i + 1].text;
    if (name == "at_s") std::from_chars(value.data(), value.data() + value.size(), entry.at_s);
    if (name == "by") entry.by = value;
    if (name == "verb") entry.verb = value;
    if (name == "target") entry.target = value;
    if (name == "reason") entry.reason = value;
    if (name == "detail") entry.detail = value;
  }
  return entry;
}

}  // namespace

RedisReply RedisRecords::ask(const std::string& key, std::vector<std::string> words, std::string& error) {
  RedisCall call;
  call.key = key;
  call.words = std::move(words);
  RedisReply answer;
  error.clear();
  std::vector<std::string> faults;
  RedisBatch batch;
  batch.add(call, [&](const RedisReply& reply) { answer = reply; });
  batch.run(servers_, faults);
  if (answer.is_error()) error = faults.empty() ? key + ": " + answer.text : faults.front();
  return answer;
}

std::string RedisRecords::keep(const DocumentVersion& document) {
  std::string error;
  if (document.version == 0) return error;
  const std::string key = space_ + ":history";
  ask(key,
      {"HSET", key, std::to_string(document.version),
       to_json(document).dump(-1, ' ', false, json::error_handler_t::replace)},
      error);
  if (error.empty() && document.version > kKept)
    ask(key, {"HDEL", key, std::to_string(document.version - kKept)}, error);
  return error;
}

std::vector<DocumentVersion> RedisRecords::history(std::string& error) {
  std::vector<DocumentVersion> documents;
  const std::string key = space_ + ":history";
  const RedisReply reply = ask(key, {"HGETALL", key}, error);
  for (std::size_t i = 1; i < reply.items.size(); i += 2) {
    if (auto document = read_document(reply.items[i].text)) documents.push_back(std::move(*document));
  }
  std::sort(documents.begin(), documents.end(),
            [](const DocumentVersion& a, const DocumentVersion& b) { return a.version > b.version; });
  return documents;
}

void RedisRecords::record(const AuditEntry& entry, std::string& error) {
  const std::string key = space_ + ":audit";
  ask(key,
      {"XADD", key, "MAXLEN", "~", kAuditEntries, "*", "at_s", std::to_string(entry.at_s), "by", entry.by, "verb",
       entry.verb, "target", entry.target, "reason", entry.reason, "detail", entry.detail},
      error);
}

std::vector<AuditEntry> RedisRecords::audit(std::size_t most, std::string& error) {
  std::vector<AuditEntry> entries;
  const std::string key = space_ + ":audit";
  const RedisReply reply = ask(key, {"XREVRANGE", key, "+", "-", "COUNT", std::to_string(most)}, error);
  for (const RedisReply& item : reply.items) entries.push_back(read_entry(item));
  return entries;
}

std::vector<EdgeReport> RedisRecords::edges(std::string& error) {
  std::vector<EdgeReport> reports;
  const std::string key = space_ + ":edges";
  const RedisReply now = ask(key, {"TIME"}, error);
  const RedisReply reply = ask(key, {"HGETALL", key}, error);
  const auto now_s = now.is_array() && !now.items.empty() ? static_cast<std::int64_t>(number_of(now.items[0])) : 0;
  for (std::size_t i = 0; i + 1 < reply.items.size(); i += 2) {
    const std::string& value = reply.items[i + 1].text;
    std::int64_t at_s = 0;
    const auto [end, problem] = std::from_chars(value.data(), value.data() + value.size(), at_s);
    if (problem != std::errc() || end == value.data() + value.size() || *end != ';') continue;
    reports.push_back({reply.items[i].text, std::max<std::int64_t>(0, now_s - at_s),
                       value.substr(static_cast<std::size_t>(end - value.data()) + 1)});
  }
  return reports;
}

void RedisRecords::report(RedisBatch& batch, const std::string& instance, const std::string& text,
                          std::vector<std::string>& errors) {
  const auto now = Clock::now();
  if (text == reported_ && now < report_due_) return;
  RedisCall call;
  call.key = space_ + ":edges";
  call.function = "experiment_report";
  call.words = {instance, text};
  batch.add(std::move(call), [this, text, now, &errors](const RedisReply& reply) {
    if (reply.is_error() && is_of_key(reply))
      errors.push_back(space_ + ":edges: " + reply.text + "; experimentctl does not see this edge");
    if (reply.is_error()) return;
    reported_ = text;
    report_due_ = now + kReportAgain;
  });
}

}  // namespace experiment::shared
