// What a request's decisions look like to caches and backends: tokens and the dictionary, made in the request's pool.
#pragma once

#include "ngx_module/pin.h"

namespace experiment::ngx {

enum class CohortScope {
  kInward,   // what caches and backends behind the edge see: without edge-rendered experiments
  kOutward,  // what the client's copy depends on: with them
};

// The canonical token of all that applied; "-" where that is nothing. Empty when the pool is out of memory.
std::string_view cohort_token(ngx_http_request_t* r, Pin* pin, CohortScope scope) noexcept;
// RFC 9651 dictionary of the same; "none" where empty.
std::string_view assignments(ngx_http_request_t* r, const Pin* pin) noexcept;
// Whether something applied: whether another visitor may see something else in this answer's place.
inline bool anything_applied(const Pin* pin) noexcept {
  return pin != nullptr && pin->applied;
}

}  // namespace experiment::ngx
