#include "ngx_module/beacon.h"

#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "ngx_module/pin.h"
#include "ngx_module/reward.h"
#include "ngx_module/worker.h"

namespace experiment::ngx {
namespace {

using nlohmann::json;

constexpr off_t kMaxBody = 4096;
constexpr std::size_t kMaxRewards = 20;

void bump(shared::Counter& counter) noexcept {
  counter.fetch_add(1, std::memory_order_relaxed);
}

off_t body_size(ngx_http_request_t* r) noexcept {
  off_t size = 0;
  ngx_chain_t* link = r->request_body == nullptr ? nullptr : r->request_body->bufs;
  for (; link != nullptr; link = link->next) size += ngx_buf_size(link->buf);
  return size;
}

// The whole body, from memory or from the file that nginx spooled it to. Requires: at most kMaxBody bytes.
std::string_view body_of(ngx_http_request_t* r) noexcept {
  if (r->request_body == nullptr) return {};
  auto* text = static_cast<u_char*>(ngx_pnalloc(r->pool, kMaxBody));
  if (text == nullptr) return {};
  u_char* end = text;
  for (ngx_chain_t* link = r->request_body->bufs; link != nullptr; link = link->next) {
    off_t size = ngx_buf_size(link->buf);
    if (size == 0) continue;  // nginx's mark of the end has neither memory nor file
    if (size > kMaxBody - (end - text)) return {};
    if (ngx_buf_in_memory(link->buf)) {
      end = ngx_cpymem(end, link->buf->pos, static_cast<std::size_t>(size));
    } else if (ngx_read_file(link->buf->file, end, static_cast<std::size_t>(size), link->buf->file_pos) == size) {
      end += size;
    } else {
      return {};
    }
  }
  return {reinterpret_cast<char*>(text), static_cast<std::size_t>(end - text)};
}

// Shortest decimal form of a number, so that 19.99 is the amount 19.99.
std::string_view amount_text(const json& value, std::array<char, 64>& room) {
  if (value.is_string()) return value.get_ref<const std::string&>();
  if (!value.is_number()) return {};
  char* end = room.data();
  if (value.is_number_float()) {
    end = std::to_chars(room.data(), room.data() + room.size(), value.get<double>()).ptr;
  } else if (value.is_number_unsigned()) {
    end = std::to_chars(room.data(), room.data() + room.size(), value.get<std::uint64_t>()).ptr;
  }
  return {room.data(), static_cast<std::size_t>(end - room.data())};
}

bool reward_of(ngx_http_request_t* r, Pin& pin, const json& event) {
  if (!event.is_object()) return false;
  auto goal = event.find("goal");
  if (goal == event.end() || !goal->is_string()) return false;
  std::array<char, 64> room;
  Reward reward;
  reward.goal = goal->get_ref<const std::string&>();
  if (auto value = event.find("value"); value != event.end()) {
    reward.value = amount_text(*value, room);
    if (reward.value.empty()) return false;
  }
  if (auto id = event.find("id"); id != event.end()) {
    if (!id->is_string() || id->get_ref<const std::string&>().size() > 128) return false;
    reward.id = id->get_ref<const std::string&>();
  }
  return count_reward(r, pin, reward);
}

void take(ngx_http_request_t* r) {
  Pin* pin = ensure_pin(r);
  if (pin == nullptr) return;  // no plan: perhaps no worker to count with
  json events = json::parse(body_of(r), nullptr, false);
  if (events.is_discarded()) return bump(worker_counters().beacons_refused);
  if (!events.is_array()) events = json::array({std::move(events)});
  if (events.size() > kMaxRewards) return bump(worker_counters().beacons_refused);
  for (const json& event : events) {
    bump(reward_of(r, *pin, event) ? worker_counters().beacons_accepted : worker_counters().beacons_refused);
  }
}

void body_read(ngx_http_request_t* r) noexcept {
  if (body_size(r) > kMaxBody) {
    ngx_http_finalize_request(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE);
    return;
  }
  try {
    take(r);
  } catch (...) {  // out of memory
    if (current_plan() != nullptr) bump(worker_counters().beacons_refused);
  }
  r->headers_out.status = NGX_HTTP_NO_CONTENT;
  r->headers_out.content_length_n = -1;
  r->header_only = 1;
  ngx_http_finalize_request(r, ngx_http_send_header(r));
}

bool is_allowed_type(ngx_http_request_t* r) noexcept {
  const ngx_table_elt_t* type = r->headers_in.content_type;
  if (type == nullptr) return false;
  for (std::string_view allowed : {"application/json", "text/plain"}) {
    std::string_view value = view(type->value);
    if (value.size() < allowed.size() || ngx_strncasecmp(type->value.data, borrow(allowed).data, allowed.size()) != 0)
      continue;
    if (value.size() == allowed.size() || value[allowed.size()] == ';' || value[allowed.size()] == ' ') return true;
  }
  return false;
}

}  // namespace

ngx_int_t beacon_handler(ngx_http_request_t* r) noexcept {
  if (r != r->main) return NGX_DECLINED;
  if (r->method != NGX_HTTP_POST) return NGX_HTTP_NOT_ALLOWED;
  if (r->headers_in.content_length_n > kMaxBody) return NGX_HTTP_REQUEST_ENTITY_TOO_LARGE;
  if (!is_allowed_type(r)) {
    if (ensure_pin(r) != nullptr) bump(worker_counters().beacons_refused);
    ngx_int_t rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) return rc;
    r->headers_out.status = NGX_HTTP_NO_CONTENT;
    r->header_only = 1;
    return ngx_http_send_header(r);
  }
  ngx_int_t rc = ngx_http_read_client_request_body(r, body_read);
  return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}

}  // namespace experiment::ngx
