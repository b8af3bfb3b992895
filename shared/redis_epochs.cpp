#include "shared/redis_epochs.h"

#include <algorithm>
#include <utility>

namespace experiment::shared {
namespace {

constexpr std::size_t kCallsAtOnce = 50;
constexpr std::size_t kWordsOfCall = 64;
constexpr auto kAllAgain = std::chrono::hours(1);
constexpr auto kSendAgain = std::chrono::minutes(1);
constexpr const char* kFieldsOfPage = "500";
constexpr std::size_t kNamesOfSweep = 1000;    // a small hash is one page, whatever it is asked for
constexpr const char* kIdleMinutes = "43200";  // 30 days
constexpr const char *kOpen = "experiment_open", *kSeal = "experiment_seal", *kSweep = "experiment_sweep",
                     *kRetire = "experiment_retire";

// "<started ms> <ended ms> <slots of arm 0>,<of arm 1>,..."
std::string text_of(const EpochRecord& epoch) {
  std::string text = std::to_string(epoch.started_ms) + " " + std::to_string(epoch.ended_ms) + " ";
  for (std::size_t a = 0; a < epoch.quotas.size(); ++a) text += (a == 0 ? "" : ",") + std::to_string(epoch.quotas[a]);
  return text;
}

}  // namespace

void RedisEpochs::mark(const char* function, const std::string& key, const EpochRecord& epoch) {
  const bool joins = !marks_.empty() && marks_.back().function == function && marks_.back().key == key &&
                     marks_.back().words.size() < kWordsOfCall;
  if (!joins) marks_.push_back({function, key, {}});
  marks_.back().words.push_back(std::to_string(epoch.id));
  marks_.back().words.push_back(text_of(epoch));
}

void RedisEpochs::note(const std::string& key, const ExperimentRuntime& before, const ExperimentRuntime& after) {
  const std::string hash = counters_.key_of(key, after.generation);
  for (const EpochRecord& epoch : after.epochs) {
    const auto known = std::find_if(before.epochs.begin(), before.epochs.end(),
                                    [&](const EpochRecord& other) { return other.id == epoch.id; });
    const bool same = before.generation == after.generation && known != before.epochs.end();
    if (epoch.sealed && !(same && known->sealed)) mark(kSeal, hash, epoch);
    if (!epoch.sealed && !(same && known->ended_ms == epoch.ended_ms)) mark(kOpen, hash, epoch);
  }
}

void RedisEpochs::note_all(const Runtime& runtime) {
  due_ = Clock::now() + kAllAgain;
  list_due_ = true;
  generations_.clear();
  marks_.clear();                       // what a server that is away was not told is noted once, too
  const bool sweeps = sweeps_.empty();  // else the last round is under way
  for (const auto& [key, state] : runtime.experiments) {
    generations_[key] = state.generation;
    if (state.epochs.empty()) continue;
    note(key, {}, state);
    if (sweeps) sweeps_.push_back({counters_.key_of(key, state.generation), "0"});
  }
}

void RedisEpochs::postpone() {
  forget();
  due_ = Clock::now() + kSendAgain;
}

void RedisEpochs::forget() {
  marks_.clear();
  sweeps_.clear();
  listed_.clear();
  list_due_ = false;
  due_ = {};
}

void RedisEpochs::retire_former() {
  for (const auto& [key, generation] : listed_) {
    const auto current = generations_.find(key);
    if (current == generations_.end() || generation >= current->second) continue;
    marks_.push_back({kRetire, counters_.key_of(key, generation), {}});
  }
  listed_.clear();
}

void RedisEpochs::work(RedisBatch& batch, std::vector<std::string>& errors) {
  retire_former();
  if (std::exchange(list_due_, false)) counters_.ask_index(batch, listed_);
  for (std::size_t calls = 0; calls < kCallsAtOnce && !marks_.empty(); ++calls) {
    Mark mark = std::move(marks_.front());
    marks_.pop_front();
    RedisCall call;
    call.key = mark.key;
    call.function = mark.function;
    call.words = mark.words;
    batch.add(std::move(call), [this, mark, &errors](const RedisReply& reply) {
      if (reply.is_error() && !is_of_key(reply)) {
        // A library that is older does not know how to retire, which comes again by itself and must hold up nothing.
        if (mark.function != kRetire) marks_.push_back(mark);
      } else if (reply.is_error()) {
        errors.push_back(mark.key + ": not kept tidy: " + reply.text + "; tried again within the hour");
      }
    });
  }
  if (marks_.empty() && !sweeps_.empty()) sweep(batch, errors);
}

// A page of the hash's vectors; those that may go are deleted with the next one.
void RedisEpochs::sweep(RedisBatch& batch, std::vector<std::string>& errors) {
  const Sweep next = sweeps_.front();
  RedisCall call;
  call.key = next.key;
  call.words = {"HSCAN", next.key, next.cursor, "MATCH", "[sx]:*", "COUNT", kFieldsOfPage};
  batch.add(std::move(call), [this, next, &errors](const RedisReply& reply) {
    if (reply.is_error() && !is_of_key(reply)) return;
    sweeps_.pop_front();
    if (reply.is_array() && reply.items.size() == 2) {
      if (reply.items[0].text != "0") sweeps_.push_front({next.key, reply.items[0].text});
      take_page(next.key, reply.items[1]);
    } else {
      errors.push_back(next.key + ": not looked through: " + reply.text + "; again within the hour");
    }
  });
}

void RedisEpochs::take_page(const std::string& key, const RedisReply& page) {
  Mark mark{kSweep, key, {kIdleMinutes}};
  for (std::size_t i = 0; i + 1 < page.items.size(); i += 2) {
    mark.words.push_back(page.items[i].text);
    if (mark.words.size() > kNamesOfSweep) marks_.push_back(std::exchange(mark, {kSweep, key, {kIdleMinutes}}));
  }
  if (mark.words.size() > 1) marks_.push_back(std::move(mark));
}

}  // namespace experiment::shared
