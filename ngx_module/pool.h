// Objects that live in an nginx pool and are destroyed with it.
#pragma once

#include <new>
#include <utility>

#include "ngx_module/ngx.h"

namespace experiment::ngx {

// Constructs a T in the pool and registers its destructor. Returns: nullptr when the pool is out of memory. May throw
// what T's constructor throws.
template <typename T, typename... Args>
T* make_in_pool(ngx_pool_t* pool, Args&&... args) {
  ngx_pool_cleanup_t* cleanup = ngx_pool_cleanup_add(pool, sizeof(T));
  if (cleanup == nullptr) return nullptr;
  T* object = new (cleanup->data) T(std::forward<Args>(args)...);
  cleanup->handler = [](void* data) noexcept { static_cast<T*>(data)->~T(); };
  return object;
}

}  // namespace experiment::ngx
