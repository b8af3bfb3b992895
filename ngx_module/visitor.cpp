#include "ngx_module/visitor.h"

#include <initializer_list>

#include "ngx_module/header_list.h"

namespace experiment::ngx {
namespace {

Answer answer(bool yes) noexcept {
  return yes ? Answer::kYes : Answer::kNo;
}

// What the walk over the headers finds.
struct Found {
  std::string_view dest, mode, accept;
  bool ahead = false;
  bool page() const noexcept {
    return !dest.empty() ? dest == "document" || dest == "iframe"
                         : mode.empty() && accept.find("text/html") != accept.npos;
  }
};

constexpr std::uint64_t lengths_of(std::initializer_list<std::string_view> names) noexcept {
  std::uint64_t lengths = 0;
  for (std::string_view name : names) lengths |= std::uint64_t{1} << name.size();
  return lengths;
}
constexpr std::uint64_t kLengths =
    lengths_of({"accept", "purpose", "sec-fetch-dest", "sec-fetch-mode", "sec-purpose", "x-moz"});

void look_at(const ngx_table_elt_t& header, Found& found) noexcept {
  std::string_view value = view(header.value);
  if (is_exactly(header, "accept")) {
    if (found.accept.empty()) found.accept = value;
  } else if (is_exactly(header, "sec-fetch-dest")) {
    if (found.dest.empty()) found.dest = value;
  } else if (is_exactly(header, "sec-fetch-mode")) {
    if (found.mode.empty()) found.mode = value;
  } else if (is_exactly(header, "sec-purpose") || is_exactly(header, "purpose") || is_exactly(header, "x-moz")) {
    found.ahead = found.ahead || value.find("prefetch") != value.npos || value.find("prerender") != value.npos;
  }
}

inline bool is_telling(const ngx_table_elt_t& header) noexcept {
  return header.key.len < 64 && (kLengths >> header.key.len & 1) != 0;
}

[[gnu::noinline]] void look_at_all(const ngx_http_request_t* main, Pin& pin) noexcept {
  Found found;
  each_header(main->headers_in.headers, [&](const ngx_table_elt_t& header) {
    if (is_telling(header)) look_at(header, found);
  });
  pin.prefetch = answer(found.ahead);
  pin.navigation = answer(main->method == NGX_HTTP_GET && found.page());
}

}  // namespace

void read_headers(ngx_http_request_t* r, Pin& pin) noexcept {
  pin.prefetch = pin.navigation = Answer::kNo;
  for (const ngx_list_part_t* part = &r->main->headers_in.headers.part; part != nullptr; part = part->next) {
    auto* header = static_cast<const ngx_table_elt_t*>(part->elts);
    for (const ngx_table_elt_t* end = header + part->nelts; header != end; ++header) {
      if (is_telling(*header)) return look_at_all(r->main, pin);
    }
  }
}

bool is_navigation(ngx_http_request_t* r, Pin& pin) noexcept {
  if (pin.navigation == Answer::kUnread) read_headers(r, pin);
  return pin.navigation == Answer::kYes;
}

bool is_bot_agent(ngx_http_request_t* r, Pin& pin) noexcept {
  if (pin.bot == Answer::kUnread)
    pin.bot = answer(pin.plan->recent->agents.is_bot(view(r->main->headers_in.user_agent->value)));
  return pin.bot == Answer::kYes;
}

}  // namespace experiment::ngx
