#include "shared/redis_calls.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "shared/redis_library.h"
#include "shared/redis_topology.h"

namespace experiment::shared {
namespace {

constexpr int kMaxRedirects = 5;  // of one call
constexpr int kMaxRounds = 20;    // redirects, each to a server that may lack the library; another master
// Until a library that was refused is tried again: what only an operator can mend, and what passes.
constexpr std::chrono::seconds kLoadAgain{60}, kLoadSoon{1};

// nullopt: nothing is wrong, or it passes with the next call.
std::optional<StoreFault> cause_of(RedisFault fault) noexcept {
  switch (fault) {
    case RedisFault::kNoAuth:
    case RedisFault::kWrongPass:
    case RedisFault::kNoPerm:
      return StoreFault::kAuth;
    case RedisFault::kOutOfMemory:
    case RedisFault::kMisconf:
    case RedisFault::kNoReplicas:
    case RedisFault::kReadOnly:
      return StoreFault::kUnwritable;
    case RedisFault::kLoading:
    case RedisFault::kBusy:
    case RedisFault::kMasterDown:
    case RedisFault::kClusterDown:
      return StoreFault::kBusy;
    case RedisFault::kNoFunction:
    case RedisFault::kNoScript:
    case RedisFault::kNoLibrary:
    case RedisFault::kUnknownCommand:
      return StoreFault::kLibrary;
    case RedisFault::kWrongType:
    case RedisFault::kExperiment:
      return StoreFault::kRefused;
    case RedisFault::kNone:
    case RedisFault::kTryAgain:
    case RedisFault::kLink:  // told where it was met
      return std::nullopt;
    default:
      return StoreFault::kOther;
  }
}

RedisReply link_error(const std::string& text) {
  RedisReply reply;
  reply.kind = RedisReply::Kind::kError;
  reply.text = "LINK " + text;
  return reply;
}

// Faults of a server rather than of a call: for whoever operates it.
bool is_of_server(RedisFault fault) noexcept {
  switch (fault) {
    case RedisFault::kNone:
    case RedisFault::kTryAgain:
    case RedisFault::kWrongType:
    case RedisFault::kExperiment:
    case RedisFault::kLink:
    case RedisFault::kOther:
      return false;
    default:
      return true;
  }
}

}  // namespace

std::string command_of(const RedisCall& call, bool by_script) {
  static const std::string kSha = script_sha();
  std::vector<std::string_view> words;
  if (!call.function.empty() && by_script)
    words = {"EVALSHA", kSha, "1", call.key, call.function};
  else if (!call.function.empty())
    words = {call.read_only ? "FCALL_RO" : "FCALL", call.function, "1", call.key};
  words.insert(words.end(), call.words.begin(), call.words.end());
  return format_command(words);
}

std::string load_command(bool by_script) {
  if (by_script) return format_command({"SCRIPT", "LOAD", script_source()});
  return format_command({"FUNCTION", "LOAD", "REPLACE", library_source()});
}

RedisAnswers RedisCalls::run(const std::vector<RedisCall>& calls) {
  answers_.replies.resize(calls.size());
  answers_.connections.resize(calls.size());
  std::vector<Item> items(calls.size());
  for (std::size_t i = 0; i < calls.size(); ++i) {
    items[i].call = &calls[i];
    items[i].reply = &answers_.replies[i];
    items[i].connection = &answers_.connections[i];
    again_.push_back(&items[i]);
  }
  for (int round = 0; round < kMaxRounds && !again_.empty(); ++round) {
    for (std::string& line : look_()) {
      note(StoreFault::kUnreachable);
      fault(std::move(line));
    }
    for (const auto& [server, batch] : by_server(std::exchange(again_, {}))) send(server, batch);
  }
  return std::move(answers_);
}

std::map<RedisEndpoint, std::vector<RedisCalls::Item*>> RedisCalls::by_server(const std::vector<Item*>& items) {
  std::map<RedisEndpoint, std::vector<Item*>> batches;
  for (Item* item : items) {
    const RedisEndpoint* server = item->to ? &*item->to : servers_.masters.find(item->call->key);
    const auto silent = server == nullptr ? silent_.end() : silent_.find(*server);
    if (server != nullptr && silent == silent_.end()) {
      batches[*server].push_back(item);
      continue;
    }
    *item->reply = link_error(server == nullptr ? "no master is known" : silent->second.error);
    *item->connection = 0;
    answers_.away = answers_.away || server == nullptr || silent->second.away;
  }
  return batches;
}

void RedisCalls::send(const RedisEndpoint& server, const std::vector<Item*>& items) {
  const bool by_script = servers_.scripted.count(server) > 0;
  const bool loads = load_.erase(server) > 0;
  std::vector<std::string> commands;
  if (loads) commands.push_back(load_command(by_script));
  for (Item* item : items) {
    if (item->asking) commands.push_back(format_command({"ASKING"}));
    commands.push_back(command_of(*item->call, by_script));
    item->by_script = by_script;
  }
  RedisRoundTrip trip = servers_.link.round_trip(server, commands);
  if (loads) loaded_.insert(server);
  const bool whole = trip.replies.size() == commands.size();
  if (!whole) not_answered(server, trip);
  if (loads && !trip.replies.empty()) loaded(server, trip.replies[0]);
  bool master = whole;
  std::size_t at = loads ? 1 : 0;
  for (Item* item : items) {
    if (item->asking) ++at;
    const bool answered = at < trip.replies.size();
    *item->connection = answered ? trip.connection : 0;
    *item->reply = answered ? std::move(trip.replies[at++]) : link_error(silent_[server].error);
    if (item->reply->is_error()) item->reply->text = std::string(without_place(item->reply->text));
    const RedisFault kind = fault_of(*item->reply);
    master = master && kind != RedisFault::kReadOnly;
    if (goes_on(server, *item, kind))
      again_.push_back(item);
    else
      end(server, *item->reply, kind);
  }
  if (master) servers_.masters.answered(server);
}

void RedisCalls::not_answered(const RedisEndpoint& server, const RedisRoundTrip& trip) {
  const bool coming = trip.away && trip.error.empty();  // the first attempt to connect is under way
  silent_[server] = {coming ? describe(server) + ": is being connected to" : trip.error, trip.away};
  if (coming) return;
  note(trip.refused ? StoreFault::kAuth : StoreFault::kUnreachable);
  fault(trip.error);
  servers_.scripted.erase(server);  // it may come back as another version
  servers_.masters.lost(server);
}

bool RedisCalls::goes_on(const RedisEndpoint& server, Item& item, RedisFault fault) {
  const bool function = !item.call->function.empty();
  switch (fault) {
    case RedisFault::kMoved:
    case RedisFault::kAsk:
      return servers_.masters.is_cluster() && redirect(server, item);
    case RedisFault::kLink:
      return silent_[server].away && from_the_start(item);  // to another master, if there is one now
    case RedisFault::kReadOnly:
      servers_.masters.lost(server);
      return !std::exchange(item.elsewhere, true) && servers_.masters.can_change() && from_the_start(item);
    case RedisFault::kNoFunction:
      return function && servers_.may_load && load_first(server) && to_the_same(server, item);
    case RedisFault::kNoScript:
      return function && load_first(server) && to_the_same(server, item);
    case RedisFault::kUnknownCommand:
      if (!function || item.by_script) return false;
      servers_.scripted.insert(server);
      return to_the_same(server, item);
    default:
      return false;
  }
}

bool RedisCalls::redirect(const RedisEndpoint& server, Item& item) {
  const auto redirect = parse_redirect(item.reply->text, server);
  if (!redirect || ++item.redirects > kMaxRedirects) return false;
  if (!redirect->ask) servers_.masters.moved(*redirect);
  item.to = redirect->to;
  item.asking = redirect->ask;
  return true;
}

bool RedisCalls::load_first(const RedisEndpoint& server) {
  const auto refused = servers_.unloadable.find(server);
  const bool waits = refused != servers_.unloadable.end() && servers_.now < refused->second.until;
  if (waits || loaded_.count(server) > 0) return false;
  load_.insert(server);
  return true;
}

void RedisCalls::loaded(const RedisEndpoint& server, const RedisReply& reply) {
  servers_.unloadable.erase(server);
  if (!reply.is_error()) return;
  const auto wait = is_passing(fault_of(reply)) ? kLoadSoon : kLoadAgain;
  servers_.unloadable[server] = {printable(reply.text), servers_.now + wait};
}

bool RedisCalls::from_the_start(Item& item) {
  item.to.reset();
  item.asking = false;
  return true;
}

bool RedisCalls::to_the_same(const RedisEndpoint& server, Item& item) {
  item.to = server;
  return true;
}

void RedisCalls::end(const RedisEndpoint& server, const RedisReply& reply, RedisFault fault) {
  if (fault == RedisFault::kClusterDown || fault == RedisFault::kMasterDown) servers_.masters.doubt();
  if (const auto cause = cause_of(fault)) note(*cause);
  if (!is_of_server(fault)) return;
  std::string line = describe(server) + ": ";
  if (fault == RedisFault::kMoved || fault == RedisFault::kAsk)
    line +=
        servers_.masters.is_cluster() ? "redirects do not end: " : "is a node of a cluster, expected redis+cluster: ";
  const bool missing = fault == RedisFault::kNoFunction || fault == RedisFault::kNoScript;
  const auto refused = servers_.unloadable.find(server);
  if (missing && refused != servers_.unloadable.end())
    return this->fault(line + "the library is missing, and cannot be loaded: " + refused->second.why);
  if (fault == RedisFault::kNoFunction && !servers_.may_load)
    line += "the library is missing, and is not loaded from here: ";
  this->fault(line + printable(reply.text));
}

void RedisCalls::fault(std::string line) {
  if (std::find(answers_.faults.begin(), answers_.faults.end(), line) == answers_.faults.end())
    answers_.faults.push_back(std::move(line));
}

}  // namespace experiment::shared
