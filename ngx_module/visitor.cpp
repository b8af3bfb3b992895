#include "ngx_module/visitor.h"

#include <initializer_list>

#include "ngx_module/header_list.h"
#include "shared/bots.h"

namespace experiment::ngx {
namespace {

Answer answer(bool yes) noexcept {
  return yes ? Answer::kYes : Answer::kNo;
}

// What the walk over the headers finds.
struct Found {
  std::string_view dest, mode, accept;
  bool ahead = false;
};

constexpr std::uint64_t lengths_of(std::initializer_list<std::string_view> names) noexcept {
  std::uint64_t lengths = 0;
  for (std::string_view name : names) lengths |= std::uint64_t{1} << name.size();
  return lengths;
}
constexpr std::uint64_t kLengths =
    lengths_of({"accept", "purpose", "sec-fetch-dest", "sec-fetch-mode", "sec-purpose", "x-moz"});

[[gnu::noinline]] void look_at(const ngx_table_elt_t& header, Found& found) noexcept {
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

// One walk over the headers answers both questions.
void read_headers(ngx_http_request_t* main, Pin& pin) noexcept {
  Found found;
  each_header(main->headers_in.headers, [&](const ngx_table_elt_t& header) {
    if (header.key.len < 64 && (kLengths >> header.key.len & 1) != 0) look_at(header, found);
  });
  pin.prefetch = answer(found.ahead);
  bool page = !found.dest.empty() ? found.dest == "document" || found.dest == "iframe"
                                  : found.mode.empty() && found.accept.find("text/html") != found.accept.npos;
  pin.navigation = answer(main->method == NGX_HTTP_GET && page);
}

}  // namespace

bool is_navigation(ngx_http_request_t* r, Pin& pin) noexcept {
  if (pin.navigation == Answer::kUnread) read_headers(r->main, pin);
  return pin.navigation == Answer::kYes;
}

bool is_prefetch(ngx_http_request_t* r, Pin& pin) noexcept {
  if (pin.prefetch == Answer::kUnread) read_headers(r->main, pin);
  return pin.prefetch == Answer::kYes;
}

bool is_bot(ngx_http_request_t* r, Pin& pin) noexcept {
  if (pin.bot == Answer::kUnread) {
    const ngx_table_elt_t* agent = r->main->headers_in.user_agent;
    pin.bot = answer(agent != nullptr && shared::is_bot(view(agent->value)));
  }
  return pin.bot == Answer::kYes;
}

}  // namespace experiment::ngx
