// libFuzzer target: RedisReader, the same bytes whole, one by one and in pieces as the input says. All must agree,
// within small limits that the input reaches, and what was read must be within them.
//
// Build with clang++ -fsanitize=fuzzer,address,undefined; run with t/fuzz/corpus/redis_reply as the corpus. The first
// byte is the seed of the pieces.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "shared/redis_reply.h"

namespace {

using experiment::shared::RedisLimits;
using experiment::shared::RedisReader;
using experiment::shared::RedisReply;

void require(bool holds) {
  if (!holds) std::abort();
}

RedisLimits limits() {
  RedisLimits limits;
  limits.depth = 3;
  limits.elements = 20;
  limits.bulk_bytes = 60;
  limits.reply_bytes = 200;
  return limits;
}

// Writes the reply in a form that tells all replies apart; counts elements.
void write(const RedisReply& reply, std::size_t depth, std::string& out, std::size_t& elements) {
  require(reply.is_array() ? reply.text.empty() && depth <= limits().depth : reply.items.empty());
  require(reply.text.size() <= limits().reply_bytes);
  out += std::to_string(static_cast<int>(reply.kind)) + "," + std::to_string(reply.integer) + "," +
         std::to_string(reply.text.size()) + ":" + reply.text + "(";
  elements += reply.items.size();
  for (const RedisReply& item : reply.items) write(item, depth + 1, out, elements);
  out += ")";
}

std::string read(std::string_view bytes, std::uint32_t seed) {
  RedisReader reader(limits());
  std::string out;
  bool fine = true;
  while (fine && !bytes.empty()) {
    seed = seed * 1664525 + 1013904223;
    const std::size_t piece = seed < 1u << 24 ? bytes.size() : std::min<std::size_t>(1 + (seed >> 28), bytes.size());
    fine = reader.feed(bytes.substr(0, piece));
    require(fine == reader.error().empty());
    bytes.remove_prefix(piece);
  }
  while (const auto reply = reader.next()) {
    std::size_t elements = 0;
    write(*reply, 0, out, elements);
    require(elements <= limits().elements);
  }
  return out + (fine ? "" : "error");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  RedisReader whole(limits());
  whole.feed(bytes);
  const std::string out = read(bytes, 0);
  require((out.size() >= 5 && out.substr(out.size() - 5) == "error") == !whole.error().empty());
  require(read(bytes, data[0] * 2654435761u) == out);
  return 0;
}
