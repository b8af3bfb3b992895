// The one place where nginx's headers come in, and the small bridge between its strings and ours.
//
// view() and borrow() never copy; copy() does, into a pool. Nothing here is NUL-terminated.
#pragma once

extern "C" {
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>
}

#include <cstdint>
#include <cstring>
#include <string_view>

static_assert(__cplusplus >= 201703L, "the module needs C++17: gcc 10 or later");

extern ngx_module_t ngx_http_experiment_module;
extern ngx_module_t ngx_http_experiment_outward_filter_module;

namespace experiment::ngx {

inline std::string_view view(const ngx_str_t& s) noexcept {
  return {reinterpret_cast<const char*>(s.data), s.len};
}
inline std::string_view view(const ngx_variable_value_t& v) noexcept {
  return v.valid && !v.not_found ? std::string_view(reinterpret_cast<const char*>(v.data), v.len) : std::string_view();
}
// The bytes must outlive the result.
inline ngx_str_t borrow(std::string_view s) noexcept {
  return {s.size(), reinterpret_cast<u_char*>(const_cast<char*>(s.data()))};
}
// Returns: a copy in the pool; data is nullptr when the pool is out of memory.
inline ngx_str_t copy(ngx_pool_t* pool, std::string_view s) noexcept {
  auto* data = static_cast<u_char*>(ngx_pnalloc(pool, s.empty() ? 1 : s.size()));
  if (data != nullptr) std::memcpy(data, s.data(), s.size());
  return {data == nullptr ? 0 : s.size(), data};
}

template <typename T>
struct Range {
  T* first;
  T* last;
  T* begin() const noexcept { return first; }
  T* end() const noexcept { return last; }
};
// Elements of an nginx array; an absent array has none.
template <typename T>
Range<T> elements(const ngx_array_t* array) noexcept {
  if (array == nullptr) return {nullptr, nullptr};
  auto* first = static_cast<T*>(array->elts);
  return {first, first + array->nelts};
}

}  // namespace experiment::ngx
