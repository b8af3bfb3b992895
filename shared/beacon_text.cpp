#include "shared/beacon_text.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace experiment::shared {
namespace {

constexpr std::size_t kMaxId = 128;

enum class Kind { kString, kNumber, kOther };

bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

// Writes a code point as UTF-8 and returns what is behind it.
char* put_utf8(char* out, std::uint32_t code) noexcept {
  if (code < 0x80) {
    *out++ = static_cast<char>(code);
  } else if (code < 0x800) {
    *out++ = static_cast<char>(0xc0 | code >> 6);
    *out++ = static_cast<char>(0x80 | (code & 0x3f));
  } else {
    if (code < 0x10000) {
      *out++ = static_cast<char>(0xe0 | code >> 12);
    } else {
      *out++ = static_cast<char>(0xf0 | code >> 18);
      *out++ = static_cast<char>(0x80 | (code >> 12 & 0x3f));
    }
    *out++ = static_cast<char>(0x80 | (code >> 6 & 0x3f));
    *out++ = static_cast<char>(0x80 | (code & 0x3f));
  }
  return out;
}

// Bytes of the well-formed UTF-8 sequence at `at` (Unicode 15, table 3-7), 0: none begins there. A NUL ends every text,
// and no sequence goes on behind it.
int utf8_length(const char* at) noexcept {
  auto byte = [&](int i) { return static_cast<unsigned char>(at[i]); };
  auto more = [&](int i) { return (byte(i) & 0xc0) == 0x80; };
  unsigned char first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return more(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    bool second = more(1) && (first != 0xe0 || byte(1) >= 0xa0) && (first != 0xed || byte(1) <= 0x9f);
    return second && more(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    bool second = more(1) && (first != 0xf0 || byte(1) >= 0x90) && (first != 0xf4 || byte(1) <= 0x8f);
    return second && more(2) && more(3) ? 4 : 0;
  }
  return 0;
}

class Reader {
 public:
  Reader(char* text, std::size_t n) noexcept : at_(text), end_(text + n) {}

  bool read(BeaconEvents& events) noexcept {
    if (std::strncmp(at_, "\xef\xbb\xbf", 3) == 0) at_ += 3;  // a byte order mark
    skip_spaces();
    if (*at_ != '[') {
      events.count = 1;
      if (!read_event(events.items[0], 0)) return false;
    } else if (!read_array(1, [&] {
                 BeaconEvent unwanted;
                 bool fits = events.count < kMaxBeaconEvents;
                 if (!read_event(fits ? events.items[static_cast<std::size_t>(events.count)] : unwanted, 1))
                   return false;
                 ++events.count;
                 return true;
               })) {
      return false;
    }
    skip_spaces();
    return at_ == end_ && events.count <= kMaxBeaconEvents;
  }

 private:
  void skip_spaces() noexcept {
    while (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r') ++at_;
  }
  bool take(char c) noexcept {
    skip_spaces();
    if (*at_ != c) return false;
    ++at_;
    return true;
  }
  bool take_word(const char* word) noexcept {
    std::size_t n = std::strlen(word);
    if (std::strncmp(at_, word, n) != 0) return false;
    at_ += n;
    return true;
  }

  // Requires: at '['. `element` reads one.
  template <typename Element>
  bool read_array(int depth, Element element) noexcept {
    ++at_;
    if (depth > kMaxBeaconDepth) return false;
    if (take(']')) return true;
    do {
      skip_spaces();
      if (!element()) return false;
    } while (take(','));
    return take(']');
  }

  // Requires: at '{'. `member(name)` reads its value.
  template <typename Member>
  bool read_object(int depth, Member member) noexcept {
    ++at_;
    if (depth > kMaxBeaconDepth) return false;
    if (take('}')) return true;
    do {
      skip_spaces();
      std::string_view name;
      if (*at_ != '"' || !read_string(name) || !take(':')) return false;
      skip_spaces();
      if (!member(name)) return false;
    } while (take(','));
    return take('}');
  }

  bool read_event(BeaconEvent& event, int depth) noexcept {
    if (*at_ != '{') {
      Kind kind;
      std::string_view ignored;
      return read_value(kind, ignored, depth);
    }
    bool goal = false, value = true, id = true;
    bool whole = read_object(depth + 1, [&](std::string_view name) {
      Kind kind;
      std::string_view text;
      if (!read_value(kind, text, depth + 1)) return false;
      if (name == "goal") {
        event.goal = text;
        goal = kind == Kind::kString;
      } else if (name == "value") {
        event.value = text;
        value = kind != Kind::kOther && !text.empty();
      } else if (name == "id") {
        event.id = text;
        id = kind == Kind::kString && text.size() <= kMaxId;
      }
      return true;
    });
    event.valid = goal && value && id;
    return whole;
  }

  // `text` is what a string or a number says, and empty for what is neither.
  bool read_value(Kind& kind, std::string_view& text, int depth) noexcept {
    text = {};
    kind = *at_ == '"' ? Kind::kString : *at_ == '-' || is_digit(*at_) ? Kind::kNumber : Kind::kOther;
    switch (*at_) {
      case '"':
        return read_string(text);
      case '[':
        return read_array(depth + 1, [&] { return skip_value(depth + 1); });
      case '{':
        return read_object(depth + 1, [&](std::string_view) { return skip_value(depth + 1); });
      case 't':
        return take_word("true");
      case 'f':
        return take_word("false");
      case 'n':
        return take_word("null");
      default:
        return kind == Kind::kNumber && read_number(text);
    }
  }
  bool skip_value(int depth) noexcept {
    Kind kind;
    std::string_view text;
    return read_value(kind, text, depth);
  }

  // Requires: at a quote.
  bool read_string(std::string_view& text) noexcept {
    char* begin = ++at_;
    char* out = begin;
    while (*at_ != '"') {
      if (*at_ == '\\') {
        if (!read_escape(out)) return false;
        continue;
      }
      int length = static_cast<unsigned char>(*at_) < 0x20 ? 0 : utf8_length(at_);
      if (length == 0) return false;
      while (length-- > 0) *out++ = *at_++;
    }
    ++at_;
    text = {begin, static_cast<std::size_t>(out - begin)};
    return true;
  }

  bool read_escape(char*& out) noexcept {
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kMeant = "\"\\/\b\f\n\r\t";
    ++at_;
    if (*at_ == 'u') {
      ++at_;
      std::uint32_t code, low;
      if (!read_hex(code)) return false;
      if (code >= 0xdc00 && code <= 0xdfff) return false;
      if (code >= 0xd800 && code <= 0xdbff) {
        if (!take_word("\\u") || !read_hex(low) || low < 0xdc00 || low > 0xdfff) return false;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
      }
      out = put_utf8(out, code);
      return true;
    }
    std::size_t which = kNames.find(*at_);
    if (which == kNames.npos) return false;
    *out++ = kMeant[which];
    ++at_;
    return true;
  }

  bool read_hex(std::uint32_t& code) noexcept {
    code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      char c = *at_;
      char lower = static_cast<char>(c | 0x20);
      if (!is_digit(c) && !(lower >= 'a' && lower <= 'f')) return false;
      code = code << 4 | static_cast<std::uint32_t>(is_digit(c) ? c - '0' : lower - 'a' + 10);
    }
    return true;
  }

  bool digits() noexcept {
    if (!is_digit(*at_)) return false;
    while (is_digit(*at_)) ++at_;
    return true;
  }

  // A whole number says itself, any other its shortest decimal form, so that 19.990 is the amount 19.99. Nothing is
  // said by a negative whole number, which is no amount.
  bool read_number(std::string_view& text) noexcept {
    char* begin = at_;
    bool negative = take_word("-"), whole = true;
    if (*at_ == '0') {
      ++at_;
    } else if (!digits()) {
      return false;
    }
    if (*at_ == '.') {
      whole = false;
      ++at_;
      if (!digits()) return false;
    }
    if (*at_ == 'e' || *at_ == 'E') {
      whole = false;
      ++at_;
      if (*at_ == '+' || *at_ == '-') ++at_;
      if (!digits()) return false;
    }
    double number = std::strtod(begin, nullptr);
    if (!std::isfinite(number)) return false;
    text = {begin, static_cast<std::size_t>(at_ - begin)};
    if (whole) {
      if (negative) text = {};
      return true;
    }
    char room[32];
    auto length = static_cast<std::size_t>(std::to_chars(room, room + sizeof(room), number).ptr - room);
    if (length <= text.size()) {  // else it has an exponent in both forms, and is no amount
      std::memcpy(begin, room, length);
      text = {begin, length};
    }
    return true;
  }

  char* at_;
  char* end_;
};

}  // namespace

bool read_beacon(char* text, std::size_t n, BeaconEvents& events) noexcept {
  events = {};
  return Reader(text, n).read(events);
}

}  // namespace experiment::shared
