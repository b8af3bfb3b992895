#include "shared/redis_counters.h"

#include <algorithm>
#include <charconv>
#include <string_view>

namespace experiment::shared {
namespace {

constexpr std::size_t kEpochsPerCall = 16;
constexpr auto kOnceMore = std::chrono::seconds(60);  // after a change
constexpr auto kAgain = std::chrono::minutes(10);     // from then on
constexpr auto kAllTotals = std::chrono::minutes(1);  // everything is asked for once more
constexpr std::string_view kFenced = "EXPERIMENT FENCED";
constexpr std::size_t kProbes = 4;              // with each poll: a full store must not be kept busy with refusing
constexpr std::size_t kMostConnections = 5000;  // that are remembered

bool is_zero(const CounterVector& vector) {
  return std::all_of(vector.begin(), vector.end(), [](std::uint64_t total) { return total == 0; });
}

// What follows the mark or the time in front: "<n>;1,2,3".
CounterVector vector_of(const std::string& field) {
  const std::size_t mark = field.find(';');
  auto vector = unpack_vector(mark == field.npos ? std::string_view(field) : std::string_view(field).substr(mark + 1));
  return vector ? std::move(*vector) : CounterVector();
}

// Fleet without this node, cell by cell.
CounterVector without(CounterVector fleet, const CounterVector& own) {
  for (std::size_t i = 0; i < fleet.size() && i < own.size(); ++i) fleet[i] -= std::min(fleet[i], own[i]);
  return fleet;
}

}  // namespace

std::string RedisCounters::key_of(const std::string& experiment, std::uint32_t generation) const {
  return space_ + ":c:" + experiment + ":" + std::to_string(generation);
}

bool RedisCounters::Sent::has(const CounterKey& key, const CounterVector& vector) const {
  if (fenced || sealed.count(key) != 0) return true;
  const auto known = acknowledged.find(key);
  return known == acknowledged.end() ? is_zero(vector) : known->second.vector == vector;
}

void RedisCounters::flush(RedisBatch& batch, const std::string& instance, const Counters& totals,
                          std::vector<std::string>& errors) {
  Sent& sent = sent_[instance];
  wanted_ = false;
  drop_refused(instance);  // it is sent again
  if (sent.fenced) return;
  const auto now = Clock::now();
  if (now >= list_due_) {
    listed_.clear();
    list_due_ = now + kOnceMore;
  }
  Entries entries;  // `totals` is in the order of experiments and generations
  for (auto entry = totals.begin(); entry != totals.end(); ++entry) {
    const bool next_hash = !entries.empty() && (entries.back().first.experiment != entry->first.experiment ||
                                                entries.back().first.generation != entry->first.generation);
    list(batch, {entry->first.experiment, entry->first.generation}, errors);
    if (next_hash || entries.size() == kEpochsPerCall) send(batch, instance, std::exchange(entries, {}), errors);
    const auto known = sent.acknowledged.find(entry->first);
    const bool again = known != sent.acknowledged.end() && now >= known->second.again;
    const bool sealed = sent.sealed.count(entry->first) != 0;
    if (!sealed && (again || !sent.has(entry->first, entry->second))) entries.push_back(*entry);
  }
  if (!entries.empty()) send(batch, instance, std::move(entries), errors);
}

// Says that there is such a hash, once a minute.
void RedisCounters::list(RedisBatch& batch, const Hash& hash, std::vector<std::string>& errors) {
  if (!listed_.insert(hash).second) return;
  RedisCall call;
  call.key = space_ + ":index";
  call.words = {"SADD", call.key, hash.first + ":" + std::to_string(hash.second)};
  batch.add(std::move(call), [this, hash, &errors](const RedisReply& reply) {
    if (!reply.is_error()) return;
    listed_.erase(hash);
    if (is_of_key(reply)) errors.push_back(space_ + ":index: " + reply.text + "; counters are not listed in it");
  });
}

void RedisCounters::send(RedisBatch& batch, const std::string& instance, Entries entries,
                         std::vector<std::string>& errors) {
  const Hash hash{entries.front().first.experiment, entries.front().first.generation};
  const std::string key = key_of(hash.first, hash.second);
  RedisCall call;
  call.key = key;
  call.function = "experiment_merge";
  call.words.push_back(instance);
  for (const auto& [counted, vector] : entries) {
    call.words.push_back(std::to_string(counted.epoch));
    call.words.push_back(pack_vector(vector));
  }
  batch.add(std::move(call),
            [this, hash, key, instance, entries = std::move(entries), &errors](const RedisReply& reply) {
              if (reply.is_array() && reply.items.size() == entries.size() + 2)
                return take_statuses(instance, hash, entries, reply);
              refused_.emplace(Refused{instance, entries.front().first}, entries);
              if (is_of_key(reply)) take_refusal(key, instance, reply, errors);
            });
}

void RedisCounters::take_refusal(const std::string& key, const std::string& instance, const RedisReply& reply,
                                 std::vector<std::string>& errors) {
  const bool fenced = reply.text.compare(0, kFenced.size(), kFenced) == 0;
  if (fenced) {
    forget(instance);
    sent_[instance].fenced = true;
  }
  errors.push_back(key + ": counters not taken: " + reply.text +
                   (fenced
                        ? "; instance " + instance +
                              " was away for a month, what it counted until then is final, and what came later is not "
                              "in the fleet's totals: an nginx that was started since counts under an id of its own"
                        : "; they are sent again"));
}

void RedisCounters::take_statuses(const std::string& instance, const Hash& hash, const Entries& entries,
                                  const RedisReply& reply) {
  see_mark(hash, number_of(reply.items[0]), number_of(reply.items[1]) == 1);
  wanted_ = refused_.erase({instance, entries.front().first}) != 0 || wanted_;
  Sent& sent = sent_[instance];
  const auto now = Clock::now();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto& [key, vector] = entries[i];
    Acknowledged& known = sent.acknowledged[key];
    known.again = now + (known.vector == vector ? kAgain : kOnceMore);
    known.vector = vector;
    if (reply.items[2 + i].integer < 0) sent.sealed.insert(key);
  }
}

void RedisCounters::see(const std::set<std::uint64_t>& connections) {
  const std::size_t before = connections_.size();
  connections_.insert(connections.begin(), connections.end());
  if (connections_.size() == before) return;
  if (connections_.size() > kMostConnections) connections_ = connections;
  doubt();
}

void RedisCounters::doubt() {
  wanted_ = true;
  for (auto& [instance, sent] : sent_) sent.acknowledged.clear();
  for (auto& [hash, asked] : asked_) asked.full = {};
  listed_.clear();
}

void RedisCounters::forgotten() {
  for (auto& [instance, sent] : sent_) sent.sealed.clear();
  doubt();
}

// A mark only grows where nothing is forgotten. `created`: there was no such hash.
void RedisCounters::see_mark(const Hash& hash, std::uint64_t mark, bool created) {
  std::uint64_t& newest = newest_[hash];
  const bool went_back = mark < newest || (created && newest != 0);
  newest = mark;
  if (went_back) forgotten();
}

void RedisCounters::forget(const std::string& instance) {
  sent_.erase(instance);
  drop_refused(instance);
}

void RedisCounters::drop_refused(const std::string& instance) {
  for (auto refused = refused_.begin(); refused != refused_.end();)
    refused = refused->first.first == instance ? refused_.erase(refused) : std::next(refused);
}

void RedisCounters::probe(RedisBatch& batch, std::vector<std::string>& errors) {
  auto next = refused_.upper_bound(probed_);
  for (std::size_t i = 0; i < std::min(kProbes, refused_.size()); ++i) {
    if (next == refused_.end()) next = refused_.begin();
    probed_ = next->first;
    send(batch, next->first.first, next->second, errors);
    ++next;
  }
}

bool RedisCounters::has(const std::string& instance, const Counters& totals) const {
  const auto sent = sent_.find(instance);
  if (sent == sent_.end()) return totals.empty();
  return std::all_of(totals.begin(), totals.end(),
                     [&](const auto& entry) { return sent->second.has(entry.first, entry.second); });
}

void RedisCounters::ask(RedisBatch& batch, const std::string& experiment, std::uint32_t generation,
                        const std::string& instance, std::vector<std::string>& errors) {
  const Hash hash{experiment, generation};
  Asked& asked = asked_[hash];
  const auto now = Clock::now();
  if (now >= asked.full) {
    asked.full = now + kAllTotals;
    asked.mark = 0;
  }
  const std::string key = key_of(experiment, generation);
  RedisCall call;
  call.key = key;
  call.function = "experiment_totals";
  call.words = {std::to_string(asked.mark), instance};
  call.read_only = true;
  batch.add(std::move(call), [this, hash, key, &errors](const RedisReply& reply) {
    if (reply.is_array() && reply.items.size() % 3 == 1) {
      take_totals(hash, reply);
    } else if (is_of_key(reply)) {
      errors.push_back(key + ": totals not read: " + reply.text + "; the allocator goes by what it has read before");
    }
  });
}

void RedisCounters::take_totals(const Hash& hash, const RedisReply& reply) {
  Asked& asked = asked_[hash];
  asked.mark = number_of(reply.items[0]);
  see_mark(hash, asked.mark, false);
  for (std::size_t i = 1; i + 2 < reply.items.size(); i += 3) {
    const CounterKey key{hash.first, hash.second, number_of(reply.items[i])};
    // The store drops the vectors of an epoch that is sealed: then this node's own are what it has itself.
    CounterVector own = vector_of(reply.items[i + 2].text);
    if (const auto mine = own_.find(key); own.empty() && mine != own_.end()) own = mine->second;
    const CounterVector others = without(vector_of(reply.items[i + 1].text), own);
    // They only grow; a store that went back is told again what it has forgotten.
    CounterVector& known = others_[key];
    known.resize(std::max(known.size(), others.size()));
    bool grown = false;
    for (std::size_t c = 0; c < others.size(); ++c) {
      grown = grown || others[c] > known[c];
      known[c] = std::max(known[c], others[c]);
    }
    if (grown) ++mark_;
  }
}

void RedisCounters::ask_index(RedisBatch& batch, std::set<std::pair<std::string, std::uint32_t>>& out) const {
  RedisCall call;
  call.key = space_ + ":index";
  call.words = {"SMEMBERS", call.key};
  batch.add(std::move(call), [&out](const RedisReply& reply) {
    for (const RedisReply& item : reply.items) {
      const std::size_t colon = item.text.find(':');
      std::uint32_t generation = 0;
      if (colon == item.text.npos) continue;
      std::from_chars(item.text.data() + colon + 1, item.text.data() + item.text.size(), generation);
      out.emplace(item.text.substr(0, colon), generation);
    }
  });
}

}  // namespace experiment::shared
