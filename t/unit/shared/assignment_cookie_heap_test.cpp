// The request path of the cookie allocates nothing: neither C++ nor OpenSSL underneath.
//
// malloc() itself is replaced for this binary, by one that forwards to glibc's; it counts only on the thread and in the
// scope of a HeapCount, so that the other tests of the binary feel nothing. Sanitizers replace malloc() themselves, so
// there is no count there.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>
#include <string>

#include "shared/assignment_cookie.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define EXPERIMENT_SANITIZED_HEAP
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define EXPERIMENT_SANITIZED_HEAP
#endif

#if defined(__GLIBC__) && !defined(EXPERIMENT_SANITIZED_HEAP)

namespace {
thread_local bool counting = false;
thread_local int allocations = 0;

struct HeapCount {
  HeapCount() {
    allocations = 0;
    counting = true;
  }
  ~HeapCount() { counting = false; }
};
}  // namespace

extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* block, std::size_t bytes);

void* malloc(std::size_t bytes) noexcept {
  if (counting) ++allocations;
  return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) noexcept {
  if (counting) ++allocations;
  return __libc_calloc(count, bytes);
}
void* realloc(void* block, std::size_t bytes) noexcept {
  if (counting) ++allocations;
  return __libc_realloc(block, bytes);
}
}

namespace experiment::shared {
namespace {

TEST(AssignmentCookieHeap, TheCounterSeesAllocations) {
  void* volatile mine;  // volatile, else a compiler may leave both allocations out
  void* volatile theirs;
  {
    const HeapCount count;
    mine = ::operator new(1);
    theirs = std::malloc(1);
  }
  ::operator delete(mine);
  std::free(theirs);
  EXPECT_EQ(allocations, 2);
}

TEST(AssignmentCookieHeap, EncodeDecodeAndPseudonymUseNoHeap) {
  std::string error;
  const auto ring = KeyRing::parse(std::string(64, '7') + "\n" + std::string(64, '8'), error);
  ASSERT_TRUE(ring) << error;
  CookieRecords records;
  for (std::uint8_t i = 0; i < 20; ++i) {
    CookieRecord& record = records.items[records.count++];
    record.experiment = i;
    record.has_sum = i < 11;
  }
  char text[kMaxCookieChars], pseudonym[KeyRing::kPseudonymChars];
  std::size_t size;
  CookieRecords again;
  CookieStatus good, bad;
  {
    const HeapCount count;
    size = encode(records, *ring, text);
    good = decode({text, size}, *ring, again);
    bad = decode({text, size - 4}, *ring, records);
    ring->pseudonym({text, 22}, pseudonym);
  }
  EXPECT_EQ(allocations, 0);
  EXPECT_EQ(good, CookieStatus::kOk);
  EXPECT_EQ(again.count, 20);
  EXPECT_EQ(bad, CookieStatus::kBadMac);
}

}  // namespace
}  // namespace experiment::shared

#endif
