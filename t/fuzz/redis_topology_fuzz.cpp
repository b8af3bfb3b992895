// libFuzzer target: what servers say of the topology, and URLs. The first byte says which reader gets the rest.
//
// Build with clang++ -fsanitize=fuzzer,address,undefined; run with t/fuzz/corpus/redis_topology as the corpus.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "shared/redis_topology.h"

namespace {

using namespace experiment::shared;

const RedisEndpoint kAsked{"asked", 1, {}};

void require(bool holds) {
  if (!holds) std::abort();
}

void require_address(const RedisEndpoint& endpoint) {
  require(is_redis_host(endpoint.host) && endpoint.port > 0 && endpoint.socket.empty());
  for (const char c : describe(endpoint)) require(c > ' ' && c < '\x7f');
}

void read_reply(std::string_view bytes) {
  RedisReader reader;
  reader.feed(bytes);
  while (const auto reply = reader.next()) {
    std::string error;
    auto map = SlotMap::parse(*reply, kAsked, error);
    require(map.has_value() == error.empty());
    if (map) {
      require(!map->masters().empty() && map->masters().size() <= map->nodes().size());
      for (const RedisEndpoint& node : map->nodes()) require_address(node);
      map->assign(key_slot(bytes), kAsked);
      require(*map->find(key_slot(bytes)) == kAsked);
    }
    if (const auto master = parse_sentinel_master(*reply)) require_address(*master);
    is_master_role(*reply);
    require(reply->is_error() != (fault_of(*reply) == RedisFault::kNone));
  }
}

void read_line(std::string_view bytes) {
  RedisReply reply;
  reply.kind = RedisReply::Kind::kError;
  reply.text = bytes;
  const RedisFault fault = fault_of(reply);
  const auto redirect = parse_redirect(bytes, kAsked);
  if (!redirect) return;
  require(fault == (redirect->ask ? RedisFault::kAsk : RedisFault::kMoved) && redirect->slot < kRedisSlots);
  require_address(redirect->to);
}

void read_url(std::string_view bytes) {
  std::string error, again;
  const auto url = parse_store_url(bytes, error);
  require(url.has_value() == error.empty());
  for (const char c : error) require(static_cast<unsigned char>(c) >= ' ');
  if (!url) return;
  require(!url->endpoints.empty() && (url->topology == RedisTopology::kSentinel) == !url->master.empty());
  const auto same = parse_store_url(describe(*url), again);
  require(same && same->endpoints == url->endpoints && same->master == url->master && same->tls == url->tls);
  require(describe(*same) == describe(*url));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] == 'l') read_line(bytes);
  if (data[0] == 'u') read_url(bytes);
  if (data[0] == 'r') read_reply(bytes);
  require(key_slot(bytes) < kRedisSlots);
  return 0;
}
