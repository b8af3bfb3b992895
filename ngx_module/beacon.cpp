#include "ngx_module/beacon.h"

#include "ngx_module/pin.h"
#include "ngx_module/reward.h"
#include "ngx_module/worker.h"
#include "shared/beacon_text.h"

namespace experiment::ngx {
namespace {

constexpr off_t kMaxBody = 4096;

void bump(shared::Counter& counter) noexcept {
  counter.fetch_add(1, std::memory_order_relaxed);
}

off_t body_size(ngx_http_request_t* r) noexcept {
  off_t size = 0;
  ngx_chain_t* link = r->request_body == nullptr ? nullptr : r->request_body->bufs;
  for (; link != nullptr; link = link->next) size += ngx_buf_size(link->buf);
  return size;
}

// The whole body and a NUL, from memory or from the file that nginx spooled it to; no data: it cannot be had. Requires:
// at most kMaxBody bytes.
ngx_str_t body_of(ngx_http_request_t* r) noexcept {
  if (r->request_body == nullptr) return {};
  auto* text = static_cast<u_char*>(ngx_pnalloc(r->pool, kMaxBody + 1));
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
  *end = '\0';
  return {static_cast<std::size_t>(end - text), text};
}

void take(ngx_http_request_t* r) noexcept {
  Pin* pin = ensure_pin(r);
  if (pin == nullptr) return;  // no plan: perhaps no worker to count with
  ngx_str_t body = body_of(r);
  shared::BeaconEvents events;
  if (body.data == nullptr || !shared::read_beacon(reinterpret_cast<char*>(body.data), body.len, events)) {
    return bump(worker_counters().beacons_refused);
  }
  for (int i = 0; i < events.count; ++i) {
    const shared::BeaconEvent& event = events.items[static_cast<std::size_t>(i)];
    bool counted = event.valid && count_reward(r, *pin, {event.goal, event.value, event.id});
    bump(counted ? worker_counters().beacons_accepted : worker_counters().beacons_refused);
  }
}

void body_read(ngx_http_request_t* r) noexcept {
  if (body_size(r) > kMaxBody) {
    ngx_http_finalize_request(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE);
    return;
  }
  take(r);
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
