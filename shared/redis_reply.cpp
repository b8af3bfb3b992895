#include "shared/redis_reply.h"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <charconv>
#include <deque>
#include <new>

namespace experiment::shared {
namespace {

constexpr std::size_t kSliceBytes = 16384;     // what hiredis is given at a time, so that limits hold within one feed()
constexpr std::size_t kMaxLineBytes = 65'536;  // of a simple string, an error, a number or a length

struct FreeReader {
  void operator()(redisReader* reader) const noexcept { redisReaderFree(reader); }
};

}  // namespace

// hiredis makes objects through the hooks below. A task's object is a RedisReply within `root`; vectors on the way to
// it do not grow while it is being filled, so pointers to it hold.
struct RedisReader::Parser {
  explicit Parser(const RedisLimits& given) : limits(given) {
    hooks.createString = create_string;
    hooks.createArray = create_array;
    hooks.createInteger = create_integer;
    hooks.createNil = create_nil;
    hooks.freeObject = free_object;
#if HIREDIS_MAJOR >= 1
    hooks.createDouble = [](const redisReadTask* task, double, char*, size_t) noexcept { return not_resp2(task); };
    hooks.createBool = [](const redisReadTask* task, int) noexcept { return not_resp2(task); };
#endif
    reader.reset(redisReaderCreateWithFunctions(&hooks));
    if (reader == nullptr) throw std::bad_alloc();
    reader->privdata = this;
  }

  void take(std::string_view bytes);
  void fail(std::string reason);
  bool complete_one();
  std::string wrong_so_far() const;

  static Parser& of(const redisReadTask* task) noexcept {
    return *static_cast<Parser*>(task->privdata);
  }
  // Returns: nullptr, which makes hiredis stop; the reason is kept.
  static void* refuse(const redisReadTask* task, const char* reason, std::size_t most = 0) noexcept;
  static void* not_resp2(const redisReadTask* task) noexcept {
    return refuse(task, "a type that RESP2 has not");
  }
  static RedisReply* place(const redisReadTask* task, RedisReply::Kind kind) noexcept;
  static void* create_string(const redisReadTask* task, char* text, std::size_t size) noexcept;
  template <typename Size>  // int, since 1.0 std::size_t
  static void* create_array(const redisReadTask* task, Size size) noexcept;
  static void* create_integer(const redisReadTask* task, long long value) noexcept;
  static void* create_nil(const redisReadTask* task) noexcept;
  static void free_object(void*) noexcept {}  // `root` owns all

  const RedisLimits limits;
  redisReplyObjectFunctions hooks{};
  std::unique_ptr<redisReader, FreeReader> reader;
  RedisReply root;           // the reply being read
  std::size_t elements = 0;  // that its arrays announced
  std::uint64_t fed = 0;     // bytes, ever
  std::uint64_t start = 0;   // of `fed`, where the reply being read begins
  std::deque<RedisReply> ready;
  std::string error;
};

void* RedisReader::Parser::refuse(const redisReadTask* task, const char* reason, std::size_t most) noexcept {
  try {
    of(task).error = most > 0 ? reason + std::to_string(most) : reason;
  } catch (const std::bad_alloc&) {
  }
  return nullptr;
}

RedisReply* RedisReader::Parser::place(const redisReadTask* task, RedisReply::Kind kind) noexcept {
  RedisReply* reply = &of(task).root;
  if (task->parent != nullptr) {
    try {
      reply = &static_cast<RedisReply*>(task->parent->obj)->items.emplace_back();
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }
  reply->kind = kind;
  return reply;
}

void* RedisReader::Parser::create_string(const redisReadTask* task, char* text, std::size_t size) noexcept {
  const bool bulk = task->type == REDIS_REPLY_STRING;
  if (!bulk && task->type != REDIS_REPLY_STATUS && task->type != REDIS_REPLY_ERROR) return not_resp2(task);
  const std::size_t most = bulk ? of(task).limits.bulk_bytes : kMaxLineBytes;
  if (size > most) return refuse(task, "a string beyond the limit of bytes, ", most);
  // What ends a text is in the buffer too, and not looked at by hiredis. A line break within a line would break logs.
  if (text[size] != '\r' || text[size + 1] != '\n') return refuse(task, "a string that does not end where it should");
  if (!bulk && std::any_of(text, text + size, [](char c) { return c == '\r' || c == '\n'; }))
    return refuse(task, "a line break within a line");
  RedisReply* reply = place(task, task->type == REDIS_REPLY_ERROR ? RedisReply::Kind::kError : RedisReply::Kind::kText);
  if (reply == nullptr) return nullptr;
  try {
    reply->text.assign(text, size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  return reply;
}

template <typename Size>
void* RedisReader::Parser::create_array(const redisReadTask* task, Size size) noexcept {
  if (task->type != REDIS_REPLY_ARRAY) return not_resp2(task);
  Parser& parser = of(task);
  const auto announced = static_cast<std::size_t>(size);
  if (announced > parser.limits.elements - parser.elements)
    return refuse(task, "arrays beyond the limit of elements, ", parser.limits.elements);
  std::size_t depth = 0;
  for (const redisReadTask* above = task->parent; above != nullptr; above = above->parent) ++depth;
  if (depth > parser.limits.depth)
    return refuse(task, "arrays in arrays beyond the limit of depth, ", parser.limits.depth);
  parser.elements += announced;
  return place(task, RedisReply::Kind::kArray);  // room is made as elements come, not as they are announced
}

void* RedisReader::Parser::create_integer(const redisReadTask* task, long long value) noexcept {
  RedisReply* reply = place(task, RedisReply::Kind::kInteger);
  if (reply != nullptr) reply->integer = value;
  return reply;
}

void* RedisReader::Parser::create_nil(const redisReadTask* task) noexcept {
  if (task->type == REDIS_REPLY_NIL) return not_resp2(task);  // in RESP2 nil is a string or an array of length -1
  return place(task, RedisReply::Kind::kNil);
}

void RedisReader::Parser::fail(std::string reason) {
  error = std::move(reason);
  root = {};
  reader.reset();
}

// What hiredis waits for without a limit of its own. It stands at the beginning of an item, after the type: a line that
// is complete there can only be the length of a bulk string that is not.
std::string RedisReader::Parser::wrong_so_far() const {
  if (fed - start > limits.reply_bytes)
    return "a reply beyond the limit of bytes, " + std::to_string(limits.reply_bytes);
  const std::string_view unread(reader->buf + reader->pos, reader->len - reader->pos);
  const std::size_t end = unread.substr(0, kMaxLineBytes + 2).find("\r\n");
  if (end == std::string_view::npos) return unread.size() < kMaxLineBytes + 2 ? "" : "a line without an end";
  std::uint64_t length = 0;
  std::from_chars(unread.data(), unread.data() + end, length);
  if (length <= limits.bulk_bytes) return {};
  return "a string beyond the limit of bytes, " + std::to_string(limits.bulk_bytes);
}

// Returns: whether there was a complete reply, and the reader can go on.
bool RedisReader::Parser::complete_one() {
  void* complete = nullptr;
  if (redisReaderGetReply(reader.get(), &complete) != REDIS_OK) {
    fail(error.empty() ? reader->errstr : error);
    return false;
  }
  const std::uint64_t end = fed - (reader->len - reader->pos);
  std::string wrong = complete == nullptr ? wrong_so_far() : "";
  if (complete != nullptr && end - start > limits.reply_bytes)
    wrong = "a reply beyond the limit of bytes, " + std::to_string(limits.reply_bytes);
  if (!wrong.empty()) fail(std::move(wrong));
  if (complete == nullptr || !error.empty()) return false;
  ready.push_back(std::move(root));
  root = {};
  elements = 0;
  start = end;
  return true;
}

void RedisReader::Parser::take(std::string_view bytes) {
  if (redisReaderFeed(reader.get(), bytes.data(), bytes.size()) != REDIS_OK) return fail(reader->errstr);
  fed += bytes.size();
  while (complete_one()) {
  }
}

RedisReader::RedisReader(const RedisLimits& limits) : parser_(std::make_unique<Parser>(limits)) {}
RedisReader::RedisReader(RedisReader&&) noexcept = default;
RedisReader& RedisReader::operator=(RedisReader&&) noexcept = default;
RedisReader::~RedisReader() = default;

bool RedisReader::feed(std::string_view bytes) {
  while (!bytes.empty() && parser_->error.empty()) {
    parser_->take(bytes.substr(0, kSliceBytes));
    bytes.remove_prefix(std::min(bytes.size(), kSliceBytes));
  }
  return parser_->error.empty();
}

std::optional<RedisReply> RedisReader::next() {
  if (parser_->ready.empty()) return std::nullopt;
  RedisReply reply = std::move(parser_->ready.front());
  parser_->ready.pop_front();
  return reply;
}

const std::string& RedisReader::error() const noexcept {
  return parser_->error;
}

std::string format_command(const std::vector<std::string_view>& words) {
  constexpr std::size_t kMostFraming = 25;  // "$", a length, and two line breaks
  std::size_t bytes = kMostFraming;
  for (const std::string_view word : words) bytes += word.size() + kMostFraming;
  std::string command;
  command.reserve(bytes);
  command.append("*").append(std::to_string(words.size())).append("\r\n");
  for (const std::string_view word : words)
    command.append("$").append(std::to_string(word.size())).append("\r\n").append(word).append("\r\n");
  return command;
}

}  // namespace experiment::shared
