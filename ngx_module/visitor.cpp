#include "ngx_module/visitor.h"

#include "shared/bots.h"

namespace experiment::ngx {
namespace {

Answer navigation(ngx_http_request_t* main, const MainConf& conf) noexcept {
  if (main->method != NGX_HTTP_GET) return Answer::kNo;
  std::string_view dest = indexed(main, conf.sec_fetch_dest_index);
  if (!dest.empty()) return dest == "document" || dest == "iframe" ? Answer::kYes : Answer::kNo;
  if (!indexed(main, conf.sec_fetch_mode_index).empty()) return Answer::kNo;
  std::string_view accept = indexed(main, conf.accept_index);
  return accept.find("text/html") != accept.npos ? Answer::kYes : Answer::kNo;
}

Answer prefetch(ngx_http_request_t* main, const MainConf& conf) noexcept {
  for (ngx_int_t index : {conf.sec_purpose_index, conf.purpose_index, conf.moz_index}) {
    std::string_view purpose = indexed(main, index);
    if (purpose.find("prefetch") != purpose.npos || purpose.find("prerender") != purpose.npos) return Answer::kYes;
  }
  return Answer::kNo;
}

}  // namespace

bool is_navigation(ngx_http_request_t* r, Pin& pin) noexcept {
  if (pin.navigation == Answer::kUnread) pin.navigation = navigation(r->main, main_conf(r));
  return pin.navigation == Answer::kYes;
}

bool is_prefetch(ngx_http_request_t* r, Pin& pin) noexcept {
  if (pin.prefetch == Answer::kUnread) pin.prefetch = prefetch(r->main, main_conf(r));
  return pin.prefetch == Answer::kYes;
}

bool is_bot(ngx_http_request_t* r, Pin& pin) noexcept {
  if (pin.bot == Answer::kUnread) {
    const ngx_table_elt_t* agent = r->main->headers_in.user_agent;
    pin.bot = agent != nullptr && shared::is_bot(view(agent->value)) ? Answer::kYes : Answer::kNo;
  }
  return pin.bot == Answer::kYes;
}

}  // namespace experiment::ngx
