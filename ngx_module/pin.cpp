#include "ngx_module/pin.h"

#include <algorithm>
#include <new>

#include "ngx_module/header_list.h"
#include "ngx_module/visitor.h"
#include "ngx_module/worker.h"
#include "shared/base64url.h"

namespace experiment::ngx {
namespace {

constexpr std::size_t kMaxUnitBytes = 256;

// 128 random bits as 22 base64url characters; empty when there is no randomness or no memory.
std::string_view mint(ngx_http_request_t* r) noexcept {
  std::uint8_t bits[16];
  auto* id = static_cast<char*>(ngx_pnalloc(r->pool, 22));
  if (id == nullptr || !random_bytes(bits, sizeof(bits))) return {};
  shared::encode_base64url(bits, sizeof(bits), id);
  return {id, 22};
}

// The first header of this name; no data where it is absent.
std::string_view header_value(const ngx_http_request_t* r, std::string_view lowcase) noexcept {
  for (const ngx_list_part_t* part = &r->headers_in.headers.part; part != nullptr; part = part->next) {
    auto* header = static_cast<const ngx_table_elt_t*>(part->elts);
    for (const ngx_table_elt_t* end = header + part->nelts; header != end; ++header) {
      if (header->key.len == lowcase.size() && is_exactly(*header, lowcase)) return view(header->value);
    }
  }
  return {};
}

// Behind cookies of a name that differs in case only.
std::string_view exact_cookie(ngx_http_request_t* r, std::string_view name) noexcept {
  for (Headers h(r->headers_in.headers); h; h.next()) {
    if (!is_named(*h, "cookie")) continue;
    std::string_view rest = view(h->value);
    while (!rest.empty()) {
      std::size_t end = rest.find(';');
      std::string_view cookie = rest.substr(0, end);
      rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
      cookie.remove_prefix(std::min(cookie.size(), cookie.find_first_not_of(' ')));
      if (cookie.size() > name.size() && cookie[name.size()] == '=' && cookie.substr(0, name.size()) == name) {
        return cookie.substr(name.size() + 1);
      }
    }
  }
  return {};
}

bool is_usable(std::string_view id) noexcept {
  return !id.empty() && id.size() <= kMaxUnitBytes;
}

// The first source that has a usable id, or a minted one; empty: none.
[[gnu::noinline]] std::string_view read_sources(ngx_http_request_t* main, Pin& pin, const Unit& unit,
                                                UnitValue& value) noexcept {
  for (const auto& source : unit.sources) {
    std::string_view id = !source.header.empty() ? header_value(main, source.header)
                          : source.cookie        ? cookie_value(main, pin, *source.cookie)
                                                 : indexed(main, source.index);
    if (!is_usable(id)) continue;
    value.memory = source.cookie.has_value();
    return id;
  }
  // Only a page that a person opens gets an id: of several scripts at once each would set another.
  if (!unit.mint || pin.headers_out || !is_navigation(main, pin)) return {};
  value.memory = value.minted = pin.minted = true;
  return mint(main);
}

}  // namespace

Pin* find_lost_pin(ngx_http_request_t* main) noexcept {
  for (ngx_pool_cleanup_t* c = main->pool->cleanup; c != nullptr; c = c->next) {
    if (c->handler != release_pin) continue;
    ngx_http_set_ctx(main, c->data, ngx_http_experiment_module);
    return static_cast<Pin*>(c->data);
  }
  return nullptr;
}

Pin* make_pin(ngx_http_request_t* r) noexcept {
  Plan* plan = current_plan();
  if (plan == nullptr) return nullptr;
  const Pin* nothing = context_of(r);
  Pin* pin = make_pin(r->main, *plan, 0);
  if (pin != nullptr && nothing != nullptr) pin->decided = nothing->decided;  // a younger plan decides nothing there
  return pin;
}

void read_unit(ngx_http_request_t* r, Pin& pin, int number) noexcept {
  const Unit& unit = *main_conf(r).units[static_cast<std::size_t>(number)];
  UnitValue& value = pin.units()[number];
  value.state = UnitValue::kNone;
  std::string_view id;
  if (!unit.header.empty()) id = header_value(r->main, unit.header);
  if (!is_usable(id)) id = read_sources(r->main, pin, unit, value);
  if (id.empty()) return;
  value.state = UnitValue::kPresent;
  value.text = id.data();
  value.size = static_cast<std::uint16_t>(id.size());
  value.hash = bandit::unit_hash(id);
}

shared::CookieRecords* cookie_records(ngx_http_request_t* r, Pin& pin) noexcept {
  if (pin.cookie_read) return pin.records;
  pin.cookie_read = true;
  auto* memory = ngx_palloc(r->main->pool, sizeof(shared::CookieRecords));
  if (memory == nullptr) return nullptr;
  pin.records = new (memory) shared::CookieRecords();
  std::string_view text = cookie_value(r->main, pin, loc_conf(r->main).cookie->name);
  if (!text.empty() && shared::decode(text, worker_keys(), *pin.records) != shared::CookieStatus::kOk) {
    worker_counters().cookies_refused.fetch_add(1, std::memory_order_relaxed);
  }
  return pin.records;
}

std::string_view indexed(ngx_http_request_t* r, ngx_int_t index) noexcept {
  ngx_http_variable_value_t* value = ngx_http_get_indexed_variable(r, static_cast<ngx_uint_t>(index));
  return value == nullptr ? std::string_view() : view(*value);
}

std::string_view cookie_value(ngx_http_request_t* r, Pin& pin, const CookieName& name) noexcept {
  bool https = is_https(r, pin);
  std::string_view value = indexed(r, https ? name.https_index : name.http_index);
  if (value.data() == nullptr) return value;
  // nginx looks names up without regard to case, browsers set them with regard to it: "__host-uid" is not "__Host-uid",
  // and anyone may set it, in front of the right one too. The value points into the header, behind its name.
  const std::string& spelling = https ? name.https : name.http;
  const char* before = value.data() - spelling.size() - 1;
  return std::memcmp(before, spelling.data(), spelling.size()) == 0 ? value : exact_cookie(r, spelling);
}

bool is_https(ngx_http_request_t* r, Pin& pin) noexcept {
  if (pin.https == Answer::kUnread) {
    const CookieConf& cookie = *loc_conf(r->main).cookie;
    bool yes = false;
    switch (cookie.secure) {
      case Secure::kOn:
        yes = true;
        break;
      case Secure::kOff:
        break;
      case Secure::kAuto:
#if (NGX_HTTP_SSL)
        yes = r->connection->ssl != nullptr;
#endif
        break;
      case Secure::kVariable: {
        std::string_view value = indexed(r->main, cookie.secure_index);
        yes = value == "1" || value == "on" || value == "https" || value == "true";
        break;
      }
    }
    pin.https = yes ? Answer::kYes : Answer::kNo;
  }
  return pin.https == Answer::kYes;
}

}  // namespace experiment::ngx
