#include "ctl/doctor_redis.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>

#include "ctl/linked_servers.h"
#include "shared/redis_batch.h"
#include "shared/redis_library.h"
#include "shared/redis_topology.h"

namespace experiment::ctl {
namespace {

using shared::RedisReply;

constexpr int kPings = 5;
constexpr double kSlowMs = 50;      // of the fastest ping
constexpr std::int64_t kSkewS = 5;  // to this machine's clock

// "name:value" lines of INFO.
std::map<std::string, std::string> parse_info(const std::string& text) {
  std::map<std::string, std::string> values;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find("\r\n", at), text.size());
    const std::string line = text.substr(at, end - at);
    const std::size_t colon = line.find(':');
    if (colon != line.npos && line[0] != '#') values[line.substr(0, colon)] = line.substr(colon + 1);
    at = end + 2;
  }
  return values;
}

class RedisDoctor {
 public:
  explicit RedisDoctor(shared::RedisServers& servers) : servers_(servers) {}

  std::vector<Finding> run(bool load) {
    const auto masters = servers_.masters();
    if (masters.empty()) add("no master is known", "the URL must name servers that run");
    if (load) {
      for (const std::string& refusal : servers_.load_library())
        add(refusal, "a user with +function|load (or +script|load) must load the library");
    }
    for (const auto& master : masters) examine(master);
    return std::move(findings_);
  }

 private:
  void add(const std::string& what, const std::string& fix) { findings_.push_back({what, fix}); }

  void examine(const shared::RedisEndpoint& server) {
    const std::string name = describe(server);
    auto trip = servers_.ask(server, {{"INFO"}, {"TIME"}, {"CONFIG", "GET", "maxmemory-policy"}});
    if (!trip.error.empty() || trip.replies.size() != 3) {
      add(trip.error.empty() ? name + ": no answer" : trip.error, "edges go on with what they last knew; mend the way");
      return;
    }
    if (trip.replies[0].is_error()) {
      add(name + ": " + trip.replies[0].text, "a user with +info sees more");
    } else {
      const auto info = parse_info(trip.replies[0].text);
      examine_version(name, info);
      examine_memory(name, info);
      examine_persistence(name, info);
      examine_replicas(name, info);
    }
    examine_clock(name, trip.replies[1]);
    if (!trip.replies[2].is_error()) {
      add(name + ": this user may do everything (CONFIG is allowed)",
          "use the users of conf-examples/fleet/users.acl; edges need no more than experiment-edge");
    }
    examine_library(server, name);
    examine_latency(server, name);
  }

  static std::string get(const std::map<std::string, std::string>& info, const char* name) {
    const auto found = info.find(name);
    return found == info.end() ? std::string() : found->second;
  }

  void examine_version(const std::string& name, const std::map<std::string, std::string>& info) {
    const std::string version = get(info, "redis_version");
    if (std::atoi(version.c_str()) >= 7) return;
    if (version.compare(0, 4, "6.2.") == 0) {
      add(name + ": Redis " + version + " has no functions, scripts are used",
          "with Redis 7 or Valkey the library survives restarts and failovers by itself");
    } else {
      add(name + ": Redis " + version + ", expected 6.2 or later", "upgrade it");
    }
  }

  void examine_memory(const std::string& name, const std::map<std::string, std::string>& info) {
    const std::string policy = get(info, "maxmemory_policy"), most = get(info, "maxmemory");
    if (!most.empty() && most != "0" && policy != "noeviction") {
      add(name + ": maxmemory-policy " + policy + ": counters and kills are evicted when memory is short",
          "set maxmemory-policy noeviction");
    }
    const double used = std::atof(get(info, "used_memory").c_str()), limit = std::atof(most.c_str());
    if (limit > 0 && used > 0.8 * limit)
      add(name + ": memory is used to " + std::to_string(static_cast<int>(100 * used / limit)) + " %",
          "raise maxmemory: what is refused waits on the edges");
  }

  void examine_persistence(const std::string& name, const std::map<std::string, std::string>& info) {
    if (get(info, "aof_enabled") == "1") {
      if (get(info, "aof_last_write_status") != "ok")
        add(name + ": the append-only file is not written", "see its log");
      return;
    }
    add(name + ": no append-only file: after a restart the edges must bring everything back",
        "set appendonly yes and appendfsync everysec");
  }

  void examine_replicas(const std::string& name, const std::map<std::string, std::string>& info) {
    if (get(info, "connected_slaves") == "0") {
      add(name + ": no replica", "a single server is a single point of failure for learning, not for serving");
    } else if (get(info, "min_slaves_good_slaves").empty()) {
      add(name + ": min-replicas-to-write is 0: a master that was cut off goes on taking writes that are lost",
          "set min-replicas-to-write 1 and min-replicas-max-lag 10");
    }
  }

  void examine_clock(const std::string& name, const RedisReply& reply) {
    if (!reply.is_array() || reply.items.empty()) return;
    const auto theirs = static_cast<std::int64_t>(shared::number_of(reply.items[0]));
    const auto ours =
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
    if (std::llabs(theirs - ours) <= kSkewS) return;
    add(name + ": its clock is " + std::to_string(theirs - ours) + " s off this machine's",
        "let all follow one time server");
  }

  void examine_library(const shared::RedisEndpoint& server, const std::string& name) {
    const auto trip = servers_.ask(server, {{"FCALL_RO", "experiment_version", "0"}});
    if (!trip.error.empty() || trip.replies.empty()) return;
    const RedisReply& reply = trip.replies[0];
    const auto fault = shared::fault_of(reply);
    if (fault == shared::RedisFault::kUnknownCommand) return;  // told by its version
    if (fault == shared::RedisFault::kNoFunction) {
      add(name + ": the library is not loaded", "experimentctl doctor --load, as a user with +function|load");
    } else if (reply.is_integer() && reply.integer != shared::kLibraryVersion) {
      add(name + ": the library has version " + std::to_string(reply.integer) + ", this is for version " +
              std::to_string(shared::kLibraryVersion),
          "experimentctl doctor --load, of the newest version in use");
    } else if (reply.is_error()) {
      add(name + ": " + reply.text, "the user needs +fcall and +fcall_ro");
    }
  }

  void examine_latency(const shared::RedisEndpoint& server, const std::string& name) {
    double fastest = 1e9;
    for (int ping = 0; ping < kPings; ++ping) {
      const auto began = std::chrono::steady_clock::now();
      if (!servers_.ask(server, {{"PING"}}).error.empty()) return;
      fastest = std::min(fastest,
                         std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count());
    }
    if (fastest > kSlowMs)
      add(name + ": answers in " + std::to_string(static_cast<int>(fastest)) + " ms at best",
          "a kill takes some round trips; put it nearer to the edges");
  }

  shared::RedisServers& servers_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> examine_redis(const StoreArguments& arguments, bool load) {
  std::string error;
  const auto linked = open_servers(arguments, error);
  if (linked == nullptr) return {{error, "correct --store"}};
  return RedisDoctor(linked->servers()).run(load);
}

}  // namespace experiment::ctl
