#include "shared/redis_control.h"

#include <algorithm>
#include <utility>

#include "shared/checked_json.h"
#include "shared/kills.h"

namespace experiment::shared {
namespace {

using nlohmann::json;

constexpr int kTries = 3;
constexpr std::size_t kFieldsAtOnce = 500;  // Lua's unpack takes some thousands of arguments
constexpr int kNumberShift = 20;            // a change id is number * 2^20 + random bits
constexpr std::uint64_t kRandomMask = (1U << kNumberShift) - 1;
constexpr std::string_view kExperiment = "x:";
constexpr const char *kMeta = "d", *kText = "doc", *kDone = "doc_done", *kKills = "kills";

std::string encode_meta(const DocumentVersion& document) {
  return json{{"version", document.version},
              {"digest", digest_text(document.text)},
              {"at_s", document.at_s},
              {"by", document.by}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

// The document that `meta` and `text` are of; nullopt and why.
std::optional<DocumentVersion> decode_document(const std::string& meta, const std::string& text, std::string& error) {
  const json parsed = json::parse(meta, nullptr, false);
  try {
    const StateValue value(parsed);
    DocumentVersion document;
    document.version = value.at("version").number(std::uint64_t{1} << 53);
    document.at_s = value.at("at_s").time();
    document.by = value.at("by").text();
    document.text = text;
    if (value.at("digest").text() == digest_text(text)) return document;
    error = "its text is not what its digest says";
  } catch (const StateError& wrong) {
    error = wrong.text;
  }
  return std::nullopt;
}

ExperimentRuntime join_one(const ExperimentRuntime& mine, const ExperimentRuntime& theirs) {
  Runtime a, b;
  a.experiments["x"] = mine;
  b.experiments["x"] = theirs;
  return std::move(join(a, b).experiments["x"]);
}

}  // namespace

RedisControl::RedisControl(RedisServers& servers, const std::string& space, const std::string& instance,
                           RandomBits random)
    : servers_(servers),
      key_(space + ":ctl"),
      channel_(space + ":push"),
      edge_(!instance.empty()),
      random_(std::move(random)),
      lease_(key_, instance) {}

void RedisControl::ask(RedisBatch& batch) {
  answered_ = false;
  if (lease_.held()) lease_.ask(batch);
  RedisCall call;
  call.key = key_;
  call.words = {"HMGET", key_, "v", "lease"};
  batch.add(std::move(call), [this](const RedisReply& reply) {
    refusal_ = reply.is_error() && is_of_key(reply) ? reply.text : "";
    if (!reply.is_array() || reply.items.size() != 2) return;
    answered_ = true;
    seen_ = number_of(reply.items[0]);
    lease_.see(reply.items[1].text);
  });
}

void RedisControl::settle(Answer& answer) {
  if (!refusal_.empty()) answer.errors.push_back(key_ + ": " + refusal_ + "; the last known state stays in use");
  if (!answered_) return;
  if (!lease_.held() && lease_.wanted()) {
    RedisBatch batch;
    lease_.ask(batch);
    batch.run(servers_, answer.errors);
  }
  for (int tries = 0; tries < kTries; ++tries) {
    if (seen_ != known_ && !read_changes(answer)) return;
    if (ahead_.empty()) return;
    mend(answer);
    if (seen_ == known_) return;
  }
}

bool RedisControl::read_changes(Answer& answer) {
  RedisBatch batch;
  RedisCall call;
  call.key = key_;
  call.function = "experiment_changes";
  call.words = {std::to_string(known_)};
  call.read_only = true;
  bool read = false;
  batch.add(std::move(call), [&](const RedisReply& reply) {
    read = reply.is_array() && reply.items.size() >= 2 && reply.items.size() % 2 == 0;
    if (read) {
      take_changes(reply, answer);
    } else if (is_of_key(reply)) {
      answer.errors.push_back(key_ + ": " + reply.text + "; the last known state stays in use");
    }
  });
  batch.run(servers_, answer.errors);
  return read;
}

void RedisControl::take_changes(const RedisReply& reply, Answer& answer) {
  const bool full = number_of(reply.items[1]) == 1;
  const bool broken = full && known_ != 0;
  std::set<std::string> there;
  std::string meta, text;
  unreadable_ = false;
  for (std::size_t i = 2; i + 1 < reply.items.size(); i += 2) {
    const std::string &name = reply.items[i].text, &value = reply.items[i + 1].text;
    there.insert(name);
    if (name == kMeta) {
      meta = value;
    } else if (name == kText) {
      text = value;
    } else {
      take_field(name, value, full || ahead_.count(name) != 0, answer);
    }
  }
  if (there.count(kMeta) != 0) take_document(meta, text, full || ahead_.count(kMeta) != 0, answer);
  known_ = seen_ = number_of(reply.items[0]);
  newest_.version = known_ >> kNumberShift;
  refresh();
  if (full) lack_what_is_missing(there);
  forgotten_ = forgotten_ || broken;
  if (broken) {
    answer.notices.push_back(key_ + ": the store went back to an earlier state" +
                             (ahead_.empty() ? "" : "; what it has forgotten is given back"));
  }
}

void RedisControl::take_field(const std::string& name, const std::string& value, bool joined, Answer& answer) {
  std::string error;
  if (name.compare(0, kExperiment.size(), kExperiment) == 0) {
    auto theirs = decode_experiment_runtime(value, error);
    if (theirs) return take_experiment(name.substr(kExperiment.size()), std::move(*theirs), joined);
  } else if (name == kKills) {
    auto theirs = decode_kills(value, error);
    if (theirs) {
      if (joined) {
        unite_kills(newest_.kill_all, *theirs);
      } else {
        newest_.kill_all = *theirs;
      }
      ahead_.erase(name);
      if (!same_kills(newest_.kill_all, *theirs)) ahead_.insert(name);
      return;
    }
  } else if (name == kDone) {
    RedisReply number;
    number.kind = RedisReply::Kind::kText;
    number.text = value;
    const std::uint64_t theirs = number_of(number);
    const bool mine = joined && newest_.document > theirs;
    ahead_.erase(name);
    if (mine) ahead_.insert(name);
    if (!mine) newest_.document = theirs;
    return;
  } else {
    return;  // of a later version of the library
  }
  unreadable_ = unreadable_ || known_ == 0;
  answer.errors.push_back(key_ + " field " + name + ": refused: " + error + "; what is known of it stays in use");
}

void RedisControl::take_experiment(const std::string& key, ExperimentRuntime theirs, bool joined) {
  const std::string name = std::string(kExperiment) + key;
  ahead_.erase(name);
  auto mine = newest_.experiments.find(key);
  if (!joined || mine == newest_.experiments.end()) {
    newest_.experiments[key] = std::move(theirs);
    return;
  }
  mine->second = join_one(mine->second, theirs);
  if (!(mine->second == theirs)) ahead_.insert(name);
}

void RedisControl::take_document(const std::string& meta, const std::string& text, bool joined, Answer& answer) {
  std::string error;
  auto theirs = decode_document(meta, text, error);
  if (!theirs) {
    answer.errors.push_back(key_ + " field d: refused: " + error + "; version " + std::to_string(document_.version) +
                            " of the definitions stays in use");
    return;
  }
  ahead_.erase(kMeta);
  if (joined && document_.version > theirs->version) {
    ahead_.insert(kMeta);
    return;
  }
  // Published twice under one number, around a failover: the store's holds.
  fresh_document_ = fresh_document_ || (theirs->version == document_.version && theirs->text != document_.text);
  document_ = std::move(*theirs);
}

// What this node knows and a complete copy of the store does not have.
void RedisControl::lack_what_is_missing(const std::set<std::string>& there) {
  for (const auto& [key, state] : newest_.experiments) {
    const std::string name = std::string(kExperiment) + key;
    if (there.count(name) == 0) ahead_.insert(name);
  }
  if (!newest_.kill_all.empty() && there.count(kKills) == 0) ahead_.insert(kKills);
  if (newest_.document != 0 && there.count(kDone) == 0) ahead_.insert(kDone);
  if (document_.version != 0 && there.count(kMeta) == 0) ahead_.insert(kMeta);
}

void RedisControl::offer(const Runtime& known) {
  for (const auto& [key, state] : known.experiments) {
    auto [mine, fresh] = newest_.experiments.try_emplace(key, state);
    ExperimentRuntime joined = fresh ? state : join_one(mine->second, state);
    if (!fresh && joined == mine->second) continue;
    mine->second = std::move(joined);
    ahead_.insert(std::string(kExperiment) + key);
    refresh();
  }
  if (unite_kills(newest_.kill_all, known.kill_all)) {
    ahead_.insert(kKills);
    refresh();
  }
  if (known.document <= newest_.document) return;
  newest_.document = known.document;
  ahead_.insert(kDone);
}

void RedisControl::offer(const StoredDocument& known) {
  if (known.version <= document_.version) return;
  document_ = {known.version, 0, {}, known.text};
  ahead_.insert(kMeta);
}

// Gives back what the store lacks, in pieces; a conflict leaves the rest to the next try, by what was read meanwhile.
void RedisControl::mend(Answer& answer) {
  const ControlFields fields = fields_ahead();
  for (std::size_t begin = 0; begin < fields.size(); begin += kFieldsAtOnce) {
    const auto first = fields.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto last = fields.begin() + static_cast<std::ptrdiff_t>(std::min(fields.size(), begin + kFieldsAtOnce));
    if (send({first, last}, answer) != Sent::kWritten) return;
    for (auto field = first; field != last; ++field) ahead_.erase(field->first);
  }
  refresh();
}

ControlFields RedisControl::fields_ahead() const {
  ControlFields fields;
  for (const std::string& name : ahead_) {
    if (name == kKills) {
      fields.emplace_back(name, encode_kills(newest_.kill_all));
    } else if (name == kDone) {
      fields.emplace_back(name, std::to_string(newest_.document));
    } else if (name == kMeta) {
      fields.emplace_back(kText, document_.text);
      fields.emplace_back(kMeta, encode_meta(document_));
    } else {
      fields.emplace_back(name, encode_experiment_runtime(newest_.experiments.at(name.substr(kExperiment.size()))));
    }
  }
  return fields;
}

RedisControl::Sent RedisControl::send(const ControlFields& fields, Answer& answer) {
  RedisCall call;
  call.key = key_;
  call.function = "experiment_write";
  call.words = {std::to_string(known_), std::to_string(random_() & kRandomMask), channel_};
  for (const auto& [name, value] : fields) {
    call.words.push_back(name);
    call.words.push_back(value);
  }
  Sent sent = Sent::kFailed;
  RedisBatch batch;
  batch.add(std::move(call), [&](const RedisReply& reply) {
    if (!reply.is_array() || reply.items.size() != 2) {
      if (is_of_key(reply)) answer.errors.push_back(key_ + ": " + reply.text + "; not written, tried again");
      return;
    }
    seen_ = number_of(reply.items[1]);
    sent = number_of(reply.items[0]) == 1 ? Sent::kWritten : Sent::kConflict;
  });
  batch.run(servers_, answer.errors);
  if (sent != Sent::kWritten) return sent;
  known_ = seen_;
  newest_.version = known_ >> kNumberShift;
  return sent;
}

ControlFields RedisControl::differences(const Runtime& next) const {
  ControlFields fields;
  for (const auto& [key, state] : next.experiments) {
    const auto mine = newest_.experiments.find(key);
    if (mine != newest_.experiments.end() && mine->second == state) continue;
    fields.emplace_back(std::string(kExperiment) + key, encode_experiment_runtime(state));
  }
  if (!same_kills(next.kill_all, newest_.kill_all)) fields.emplace_back(kKills, encode_kills(next.kill_all));
  // Last, so that nobody takes the document up before all of its state is there.
  if (next.document > newest_.document) fields.emplace_back(kDone, std::to_string(next.document));
  return fields;
}

// Nothing could be written: the caller goes on with what is published, but for the kills, which are given to the store
// when it can take them.
void RedisControl::keep_kills(const Runtime& from) {
  if (!edge_) return;  // a tool ends, and what it was to write with it: its caller says so
  Runtime kills;
  kills.kill_all = from.kill_all;
  for (const auto& [key, state] : from.experiments) {
    if (state.kills.empty()) continue;
    const auto mine = newest_.experiments.find(key);
    ExperimentRuntime& with = kills.experiments[key];
    if (mine != newest_.experiments.end()) with = mine->second;
    with.kills = state.kills;
  }
  offer(kills);
  refresh();
}

void RedisControl::write(const Exchange& wants, Answer& answer) {
  if (!wants.runtime) return;
  if (!answered_ || !ahead_.empty()) return keep_kills(*wants.runtime);
  answer.runtime_conflict = fresh_runtime_ || wants.known_runtime != newest_.version;
  if (answer.runtime_conflict) return;
  const ControlFields fields = differences(*wants.runtime);
  for (std::size_t begin = 0; begin < fields.size(); begin += kFieldsAtOnce) {
    const auto first = fields.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto last = fields.begin() + static_cast<std::ptrdiff_t>(std::min(fields.size(), begin + kFieldsAtOnce));
    const Sent sent = send({first, last}, answer);
    if (sent == Sent::kWritten) continue;
    // Pieces that were written are in the store's log, and come back as changes.
    answer.runtime_conflict = sent == Sent::kConflict;
    if (begin > 0) known_ = 0;
    if (sent == Sent::kFailed || !read_changes(answer)) keep_kills(*wants.runtime);
    return;
  }
  for (const auto& [name, value] : fields) {
    if (name.compare(0, kExperiment.size(), kExperiment) != 0) continue;
    const std::string key = name.substr(kExperiment.size());
    rewritten_.try_emplace(key, newest_.experiments[key]);
  }
  const std::uint64_t version = newest_.version;
  newest_ = *wants.runtime;
  newest_.version = version;
  ++revision_;
  answer.runtime_written = true;
  answer.runtime_version = version;
}

void RedisControl::hand_out(const Exchange& wants, Answer& answer) {
  answer.allocates = !edge_ || lease_.held();
  answer.runtime_unreadable = unreadable_ || (!edge_ && !answered_);  // a tool knows nothing by itself
  if (!answer.runtime_written && (fresh_runtime_ || newest_.version != wants.known_runtime)) answer.runtime = newest_;
  if (answer.runtime || answer.runtime_written) fresh_runtime_ = false;
  const bool newer = document_.version > wants.known_document || fresh_document_;
  const bool reconciled = answer.allocates || newest_.document >= document_.version;
  if (!newer || !reconciled) return;
  answer.document = StoredDocument{document_.version, document_.text};
  fresh_document_ = false;
}

bool RedisControl::publish(const Publication& publication, bool& conflict, Answer& answer) {
  DocumentVersion next{document_.version + 1, publication.at_s, publication.by, publication.text};
  const Sent sent = send({{kText, next.text}, {kMeta, encode_meta(next)}}, answer);
  conflict = sent == Sent::kConflict;
  if (sent == Sent::kWritten) document_ = std::move(next);
  return sent == Sent::kWritten;
}

}  // namespace experiment::shared
