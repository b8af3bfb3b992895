#include "ngx_module/visitor.h"

#include "ngx_module/header_list.h"
#include "shared/bots.h"

namespace experiment::ngx {
namespace {

Answer answer(bool yes) noexcept {
  return yes ? Answer::kYes : Answer::kNo;
}

bool is_fetched_ahead(std::string_view purpose) noexcept {
  return purpose.find("prefetch") != purpose.npos || purpose.find("prerender") != purpose.npos;
}

// One walk over the headers answers both questions.
void read_headers(ngx_http_request_t* main, Pin& pin) noexcept {
  std::string_view dest, mode, accept;
  bool ahead = false;
  each_header(main->headers_in.headers, [&](const ngx_table_elt_t& header) {
    switch (header.key.len) {
      case 5:  // X-Moz
        if (is_exactly(header, "x-moz")) ahead = ahead || is_fetched_ahead(view(header.value));
        break;
      case 6:
        if (accept.empty() && is_exactly(header, "accept")) accept = view(header.value);
        break;
      case 7:
        if (is_exactly(header, "purpose")) ahead = ahead || is_fetched_ahead(view(header.value));
        break;
      case 11:
        if (is_exactly(header, "sec-purpose")) ahead = ahead || is_fetched_ahead(view(header.value));
        break;
      case 14:
        if (dest.empty() && is_exactly(header, "sec-fetch-dest")) dest = view(header.value);
        if (mode.empty() && is_exactly(header, "sec-fetch-mode")) mode = view(header.value);
        break;
      default:
        break;
    }
  });
  pin.prefetch = answer(ahead);
  bool page =
      !dest.empty() ? dest == "document" || dest == "iframe" : mode.empty() && accept.find("text/html") != accept.npos;
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
