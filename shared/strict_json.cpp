#include "shared/strict_json.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "shared/definition_error.h"

namespace experiment::shared {
namespace {

using Json = nlohmann::json;

// "line 3, column 7" of a byte offset.
std::string place_of(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::string_view row = before.substr(before.rfind('\n') + 1);  // npos + 1 is 0: the first row
  const auto starts_character = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  const auto column = 1 + std::count_if(row.begin(), row.end(), starts_character);
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

// Builds the values while the library's parser reports what it reads; an own builder because the library's takes the
// last of duplicate members and knows no limits.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(std::string_view text) : text_(text) {}
  Json take() { return std::move(root_); }

  bool null() override { return put(nullptr), true; }
  bool boolean(bool value) override { return put(value), true; }
  bool number_integer(number_integer_t value) override { return put(value), true; }
  bool number_unsigned(number_unsigned_t value) override { return put(value), true; }
  bool number_float(number_float_t value, const string_t&) override { return put(value), true; }
  bool string(string_t& value) override { return put(std::move(value)), true; }
  bool binary(binary_t& value) override { return put(std::move(value)), true; }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return frames_.pop_back(), true; }
  bool end_array() override { return frames_.pop_back(), true; }

  bool key(string_t& name) override {
    Frame& frame = frames_.back();
    const auto [member, inserted] = frame.container->get_ref<Json::object_t&>().emplace(name, nullptr);
    frame.member = &member->first;
    frame.slot = &member->second;
    if (!inserted) throw Refusal{{path(), "a second " + excerpt(name), "each member of an object once"}};
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    // The position counts the bytes read, the offending one included.
    const std::size_t offset = position == 0 ? 0 : position - 1;
    throw Refusal{{place_of(text_, offset), text_from(offset), "well-formed JSON (" + reason_of(e.what()) + ")"}};
  }

 private:
  struct Frame {
    Json* container;
    const std::string* member;  // object: name and place of the member being read
    Json* slot;
  };

  // The rest of the line, which excerpt cuts.
  std::string text_from(std::size_t offset) const {
    if (offset >= text_.size()) return "end of text";
    const std::string_view rest = text_.substr(offset, 80);
    return excerpt(std::string(rest.substr(0, std::max<std::size_t>(rest.find('\n'), 1))));
  }

  // "unexpected '}'; expected string literal" of the library's message: without error number, position and the bytes it
  // read, which are said in our own way.
  static std::string reason_of(std::string message) {
    message.erase(0, message.find("] ") + 2);
    if (const auto at = message.find(" - "); at != std::string::npos) message.erase(0, at + 3);
    if (const auto read = message.find("; last read: "); read != std::string::npos) {
      const auto next = message.find("; expected ", read);
      message.erase(read, next == std::string::npos ? next : next - read);
    }
    const std::string quoted = Json(message).dump(-1, ' ', true, Json::error_handler_t::replace);
    return quoted.substr(1, quoted.size() - 2);
  }

  // Places stay valid while they are open: a container gets no further element before its last one is closed.
  template <typename Value>
  Json* put(Value&& value) {
    if (++values_ > kMaxJsonValues) {
      throw Refusal{{path(), "value " + std::to_string(values_), "at most 500000 values in a document"}};
    }
    if (frames_.empty()) {
      root_ = std::forward<Value>(value);
      return &root_;
    }
    Frame& frame = frames_.back();
    if (frame.container->is_array()) {
      frame.container->push_back(std::forward<Value>(value));
      return &frame.container->back();
    }
    *frame.slot = std::forward<Value>(value);
    return frame.slot;
  }

  bool open(Json container) {
    Json* place = put(std::move(container));
    frames_.push_back({place, nullptr, nullptr});
    if (frames_.size() > kMaxJsonDepth) {
      frames_.pop_back();
      throw Refusal{{path(), "a deeper level", "at most 32 levels of arrays and objects"}};
    }
    return true;
  }

  std::string path() const {
    std::string path;
    for (const Frame& frame : frames_) {
      if (frame.member != nullptr) {
        append_token(path, *frame.member);
      } else if (frame.container->is_array() && !frame.container->empty()) {
        path += '/' + std::to_string(frame.container->size() - 1);
      }
    }
    return path;
  }

  std::string_view text_;
  Json root_;
  std::vector<Frame> frames_;
  std::size_t values_ = 0;
};

}  // namespace

Json parse_strict_json(std::string_view text) {
  if (text.size() > kMaxDocumentBytes) {
    throw Refusal{{"", std::to_string(text.size()) + " bytes", "at most 4194304 bytes (4 MiB)"}};
  }
  if (text.empty()) throw Refusal{{"line 1, column 1", "an empty text", "a JSON object"}};
  if (text.substr(0, 3) == "\xEF\xBB\xBF") {
    throw Refusal{{"line 1, column 1", "a byte order mark", "UTF-8 text without one"}};
  }
  Builder builder(text);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

}  // namespace experiment::shared
