// Replies of a Redis server as values, and the reader that takes them from a stream of bytes within limits.
//
// Used wherever bytes of a server arrive: on nginx's event loop and in tools; an object by one thread at a time.
// hiredis parses; what is beyond the limits is an error before memory is spent on it. The bytes are not trusted. RESP2:
// what RESP3 added is an error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace experiment::shared {

struct RedisReply {
  enum class Kind : std::uint8_t { kNil, kInteger, kText, kError, kArray };
  Kind kind = Kind::kNil;
  std::int64_t integer = 0;
  std::string text;  // kText: also of simple strings; kError: the whole line, as "MOVED 1234 10.0.0.1:6379"
  std::vector<RedisReply> items;  // kArray

  bool is_nil() const noexcept { return kind == Kind::kNil; }
  bool is_integer() const noexcept { return kind == Kind::kInteger; }
  bool is_text() const noexcept { return kind == Kind::kText; }
  bool is_error() const noexcept { return kind == Kind::kError; }
  bool is_array() const noexcept { return kind == Kind::kArray; }
};

// A line (simple string, error, number) is at most 65536 bytes besides.
struct RedisLimits {
  std::size_t depth = 7;                            // of arrays in arrays
  std::size_t elements = 200'000;                   // of one reply, at all depths together
  std::size_t bulk_bytes = std::size_t{16} << 20;   // of one string
  std::size_t reply_bytes = std::size_t{32} << 20;  // of one reply as it came over the wire
};

class RedisReader {
 public:
  explicit RedisReader(const RedisLimits& limits = {});
  RedisReader(RedisReader&&) noexcept;
  RedisReader& operator=(RedisReader&&) noexcept;
  ~RedisReader();

  // Takes bytes as they came, however they were split. False: error() says why, and nothing more is read.
  bool feed(std::string_view bytes);
  // The next complete reply, also one that came before an error; nullopt: more bytes are needed, or error() says what
  // is wrong.
  std::optional<RedisReply> next();
  // Why this stream cannot be read on: not the protocol, or beyond a limit. Empty: nothing is wrong.
  const std::string& error() const noexcept;

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
};

// One command in the protocol's form (RESP arrays of bulk strings).
std::string format_command(const std::vector<std::string_view>& words);

}  // namespace experiment::shared
