#include "ngx_module/entity_tag.h"

namespace experiment::ngx {
namespace {

constexpr std::string_view kMark = ";exp=";

char* put(char* out, std::string_view text) noexcept {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

// Cuts the next element of a comma-separated list of entity tags off; quotes may hold commas.
std::string_view cut_tag(std::string_view& list) noexcept {
  std::size_t begin = list.find_first_not_of(" \t,");
  if (begin == list.npos) return list = {};
  std::size_t quote = list.find('"', begin);
  std::size_t end =
      quote == list.npos || list.find(',', begin) < quote ? list.find(',', begin) : list.find('"', quote + 1);
  if (end != list.npos && list[end] == '"') ++end;
  std::string_view tag = list.substr(begin, end == list.npos ? list.npos : end - begin);
  list.remove_prefix(end == list.npos ? list.size() : end);
  while (!tag.empty() && (tag.back() == ' ' || tag.back() == '\t')) tag.remove_suffix(1);
  return tag;
}

}  // namespace

std::string_view tag_with_token(ngx_pool_t* pool, std::string_view tag, std::string_view token) noexcept {
  if (tag.size() < 2 || tag.back() != '"') return {};
  auto* out = static_cast<char*>(ngx_pnalloc(pool, tag.size() + kMark.size() + token.size()));
  if (out == nullptr) return {};
  char* end = put(put(put(out, tag.substr(0, tag.size() - 1)), kMark), token);
  *end++ = '"';
  return {out, static_cast<std::size_t>(end - out)};
}

OriginTags tags_without_token(ngx_pool_t* pool, std::string_view list, std::string_view token) noexcept {
  // A tag may gain a comma: a list that a client made up need not have any.
  std::size_t room = 2 * list.size() + 2;
  auto* plain = static_cast<char*>(ngx_pnalloc(pool, 2 * room));
  if (plain == nullptr) return {};
  char* kept = plain + room;
  char *plain_end = plain, *kept_end = kept;
  while (!list.empty()) {
    std::string_view tag = cut_tag(list);
    if (tag.empty()) break;
    std::size_t mark = tag.rfind(kMark);
    bool todays = token == kAnyToken ? true
                  : token == "-"     ? mark == tag.npos
                                     : mark != tag.npos && tag.back() == '"' &&
                                       tag.substr(mark + kMark.size(), tag.size() - mark - kMark.size() - 1) == token;
    if (!todays && tag != "*") continue;
    if (plain_end != plain) {
      *plain_end++ = ',';
      *kept_end++ = ',';
    }
    kept_end = put(kept_end, tag);
    plain_end = put(plain_end, tag.substr(0, mark));
    if (mark != tag.npos) *plain_end++ = '"';
  }
  return {{plain, static_cast<std::size_t>(plain_end - plain)}, {kept, static_cast<std::size_t>(kept_end - kept)}};
}

}  // namespace experiment::ngx
