#include "shared/redis_store.h"

#include <utility>

namespace experiment::shared {
namespace {

constexpr int kPublishTries = 10;
constexpr auto kWatched = std::chrono::seconds(2);  // a store that is back: what tells of changes may not be there yet

}  // namespace

RedisStore::RedisStore(std::unique_ptr<RedisServers> servers, RedisStoreOptions options, RandomBits random)
    : servers_(std::move(servers)),
      options_(std::move(options)),
      control_(*servers_, options_.space, options_.instance, std::move(random)),
      counters_(options_.space),
      epochs_(counters_),
      records_(*servers_, options_.space) {
  servers_->count_in(options_.health);
  std::uint64_t never = 0;  // then it is waited for from now on
  if (options_.health != nullptr) options_.health->answered_ms.compare_exchange_strong(never, steady_ms());
}

bool RedisStore::is_due(const Exchange& wants) const {
  const auto now = Clock::now();
  return !wants.counters_only && (wants.hint || now < watched_until_ || now - asked_ >= options_.poll);
}

Answer RedisStore::exchange(const Exchange& wants) {
  Answer answer;
  const bool due = is_due(wants);
  RedisBatch batch;
  if (due) control_.ask(batch);
  if (wants.counters) flush(wants, batch, answer);
  if (due) ask_totals(wants, answer, batch);
  if (due && !wants.counters) counters_.probe(batch, answer.errors);
  if (due && wants.report) records_.report(batch, options_.instance, *wants.report, answer.errors);
  reach(batch, answer);
  if (due) note_answer();
  if (due) control_.settle(answer);
  if (control_.take_forgotten()) {
    counters_.forgotten();
    epochs_.postpone();
  }
  if (wants.counters && !away_) {
    flush(wants, batch, answer);  // what a new connection put in doubt
    reach(batch, answer);
  }
  answer.counters_written = wants.counters && counters_.has(options_.instance, *wants.counters);
  control_.write(wants, answer);
  tend_epochs(answer);
  answer.counters_wanted = counters_.wanted();
  if (!wants.counters_only) control_.hand_out(wants, answer);
  answer.others_mark = counters_.mark();
  if (answer.others_mark != wants.known_others) answer.others = counters_.others();
  return answer;
}

// By what says what is new: of a cluster, other servers may be away meanwhile.
void RedisStore::note_answer() {
  StoreHealth* health = options_.health;
  if (!control_.answered()) {
    if (told_away_ && health != nullptr) health->away.store(1, std::memory_order_relaxed);
    return;
  }
  asked_ = Clock::now();
  if (health == nullptr) return;
  health->answered_ms.store(steady_ms(), std::memory_order_relaxed);
  if (health->away.exchange(0, std::memory_order_relaxed) != 0) health->rejoins.fetch_add(1, std::memory_order_relaxed);
}

void RedisStore::reach(RedisBatch& batch, Answer& answer) {
  if (batch.empty()) return;
  std::vector<std::string> faults;
  const bool reached = batch.run(*servers_, faults);
  counters_.see(batch.connections());
  answer.errors.insert(answer.errors.end(), faults.begin(), faults.end());
  if (reached && told_away_) {
    const auto away = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - away_since_);
    answer.notices.push_back("store: back after " + std::to_string(away.count()) + " s");
  }
  if (reached && away_) watched_until_ = Clock::now() + kWatched;
  // The first attempt to connect is no outage.
  if (!reached && !told_away_ && !faults.empty()) away_since_ = Clock::now();
  told_away_ = !reached && (told_away_ || !faults.empty());
  away_ = !reached;
}

void RedisStore::flush(const Exchange& wants, RedisBatch& batch, Answer& answer) {
  counters_.keep_own(*wants.counters);
  if (!options_.instance.empty()) counters_.flush(batch, options_.instance, *wants.counters, answer.errors);
  for (const auto& [instance, totals] : gone_) counters_.flush(batch, instance, totals, answer.errors);
}

bool RedisStore::has_all_of(const std::string& instance) const {
  const auto gone = gone_.find(instance);
  return gone != gone_.end() && counters_.has(instance, gone->second);
}

void RedisStore::forget(const std::string& instance) {
  gone_.erase(instance);
  counters_.forget(instance);
}

// A caller that names experiments has their totals with each of its flushes; one that does not, each time.
void RedisStore::ask_totals(const Exchange& wants, Answer& answer, RedisBatch& batch) {
  if (wants.counters_only || away_) return;
  if (!wants.learning) {
    std::set<std::pair<std::string, std::uint32_t>> all;
    RedisBatch index;
    counters_.ask_index(index, all);
    reach(index, answer);
    for (const auto& [key, generation] : all) counters_.ask(batch, key, generation, options_.instance, answer.errors);
    return;
  }
  if (!wants.counters) return;
  for (const std::string& key : *wants.learning) {
    const auto state = control_.runtime().experiments.find(key);
    if (state == control_.runtime().experiments.end()) continue;
    counters_.ask(batch, key, state->second.generation, options_.instance, answer.errors);
  }
}

void RedisStore::tend_epochs(Answer& answer) {
  auto rewritten = control_.take_rewritten();
  const bool allocates = control_.lease().held();
  if (!allocates) {
    if (allocated_) epochs_.forget();
    allocated_ = false;
    return;
  }
  allocated_ = true;
  for (const auto& [key, before] : rewritten) epochs_.note(key, before, control_.runtime().experiments.at(key));
  if (epochs_.due()) epochs_.note_all(control_.runtime());
  RedisBatch batch;
  epochs_.work(batch, answer.errors);
  reach(batch, answer);
}

Published RedisStore::publish(const Publication& publication) {
  Published out;
  for (int tries = 0; tries < kPublishTries; ++tries) {
    Answer answer;
    RedisBatch batch;
    control_.ask(batch);
    reach(batch, answer);
    control_.settle(answer);
    if (!control_.answered() || !answer.errors.empty()) {
      out.error = answer.errors.empty() ? "store: no answer" : answer.errors.front();
      return out;
    }
    const DocumentVersion& standing = control_.document();
    out.version = standing.version;
    out.conflict = publication.expected && *publication.expected != standing.version;
    if (out.conflict || (standing.version != 0 && standing.text == publication.text)) return out;
    out.error = records_.keep(standing);
    bool moved_on = false;
    if (!out.error.empty()) return out;
    out.written = control_.publish(publication, moved_on, answer);
    if (out.written) out.version = control_.document().version;
    if (out.written) return out;
    if (!moved_on) {
      out.error = answer.errors.empty() ? "store: not written" : answer.errors.front();
      return out;
    }
  }
  out.error = "store: others write all the time; nothing was published";
  return out;
}

std::vector<DocumentVersion> RedisStore::history(std::string& error) {
  std::vector<DocumentVersion> documents = records_.history(error);
  Answer answer;
  RedisBatch batch;
  control_.ask(batch);
  reach(batch, answer);
  control_.settle(answer);
  if (error.empty() && !answer.errors.empty()) error = answer.errors.front();
  const DocumentVersion& standing = control_.document();
  const bool listed = !documents.empty() && documents.front().version == standing.version;
  if (standing.version != 0 && !listed) documents.insert(documents.begin(), standing);
  return documents;
}

}  // namespace experiment::shared
