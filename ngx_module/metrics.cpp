#include "ngx_module/metrics.h"

#include "ngx_module/metrics_text.h"
#include "ngx_module/pool.h"
#include "ngx_module/worker.h"

namespace experiment::ngx {
namespace {

constexpr std::size_t kPieceBytes = 32 * 1024;  // made in some 50 microseconds

// Lives in the request's pool, with one buffer that is filled again when it was sent.
class Scrape {
 public:
  explicit Scrape(ngx_http_request_t* r) noexcept
      : r_(r),
        plan_(current_plan()),
        text_(plan_, plan_ == nullptr ? shared::Zone() : worker_zone(), main_conf(r).store.has_value()),
        buf_(ngx_create_temp_buf(r->pool, kPieceBytes)) {
    if (plan_ != nullptr) ++plan_->references;
  }
  ~Scrape() {
    if (plan_ != nullptr) release_plan(plan_);
  }
  Scrape(const Scrape&) = delete;
  Scrape& operator=(const Scrape&) = delete;

  bool has_memory() const noexcept { return buf_ != nullptr; }

  void begin() noexcept {
    r_->write_event_handler = on_write;
    r_->read_event_handler = r_->discard_body ? ngx_http_discarded_request_body_handler : ngx_http_test_reading;
    go_on();
  }

 private:
  static void on_write(ngx_http_request_t* r) noexcept {
    static_cast<Scrape*>(ngx_http_get_module_ctx(r, ngx_http_experiment_outward_filter_module))->go_on();
  }

  // One piece at most; whatever comes next is another event.
  void go_on() noexcept {
    ngx_event_t* write = r_->connection->write;
    if (write->timedout) {
      ngx_log_error(NGX_LOG_INFO, r_->connection->log, NGX_ETIMEDOUT, "client timed out");
      r_->connection->timedout = 1;
      return ngx_http_finalize_request(r_, NGX_HTTP_REQUEST_TIME_OUT);
    }
    if (write->delayed) return wait();  // by limit_rate
    ngx_int_t rc = is_sent() ? send_next() : ngx_http_output_filter(r_, nullptr);
    if (rc == NGX_ERROR || text_.complete()) return ngx_http_finalize_request(r_, rc);  // sends the rest
    wait();
  }

  bool is_sent() const noexcept { return ngx_buf_size(buf_) == 0; }

  ngx_int_t send_next() noexcept {
    buf_->pos = buf_->start;
    buf_->last = reinterpret_cast<u_char*>(
        text_.write(reinterpret_cast<char*>(buf_->start), reinterpret_cast<char*>(buf_->end)));
    // As often as a whole slice of experiments has nothing to say in a family.
    if (buf_->last == buf_->pos) return NGX_OK;
    buf_->recycled = 1;  // nothing in the filter chain waits for more before it sends this
    buf_->last_buf = text_.complete() && r_ == r_->main;
    buf_->last_in_chain = text_.complete();
    ngx_chain_t chain{buf_, nullptr};
    return ngx_http_output_filter(r_, &chain);
  }

  // For the next turn of the loop; or for the client to read, for a subrequest's turn, for limit_rate's timer. There is
  // a timer in any case: a worker that shuts down ends when it has none.
  void wait() noexcept {
    ngx_event_t* write = r_->connection->write;
    auto* core = static_cast<ngx_http_core_loc_conf_t*>(ngx_http_get_module_loc_conf(r_->main, ngx_http_core_module));
    if (!write->delayed) ngx_add_timer(write, core->send_timeout);
    if (is_sent() && write->ready && !write->delayed) {
      ngx_post_event(write, &ngx_posted_next_events);
    } else if (ngx_handle_write_event(write, core->send_lowat) != NGX_OK) {
      ngx_http_finalize_request(r_, NGX_ERROR);
    }
  }

  ngx_http_request_t* r_;
  Plan* plan_;
  MetricsText text_;
  ngx_buf_t* buf_;
};

}  // namespace

ngx_int_t metrics_handler(ngx_http_request_t* r) noexcept {
  if (r->method != NGX_HTTP_GET && r->method != NGX_HTTP_HEAD) return NGX_HTTP_NOT_ALLOWED;
  if (ngx_int_t rc = ngx_http_discard_request_body(r); rc != NGX_OK) return rc;
  auto* scrape = make_in_pool<Scrape>(r->pool, r);
  if (scrape == nullptr || !scrape->has_memory()) return NGX_HTTP_INTERNAL_SERVER_ERROR;
  r->headers_out.status = NGX_HTTP_OK;
  r->headers_out.content_type = ngx_str_t ngx_string("text/plain; version=0.0.4; charset=utf-8");
  r->headers_out.content_type_len = sizeof("text/plain") - 1;  // what gzip_types and the like look at
  ngx_int_t rc = ngx_http_send_header(r);
  if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) return rc;
  // The other slot of the request's belongs to what it knows of its experiments.
  ngx_http_set_ctx(r, scrape, ngx_http_experiment_outward_filter_module);
  ++r->main->count;
  scrape->begin();
  return NGX_DONE;
}

}  // namespace experiment::ngx
