// The zone's image of the document: published whole by the leader, copied and checked by workers.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "shared/zone.h"

namespace experiment::shared {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;

std::uint64_t image_checksum(const DocumentImage& image) {
  auto* from = reinterpret_cast<const std::byte*>(&image.version);
  return XXH3_64bits(from, image.bytes - offsetof(DocumentImage, version));
}

// Between private memory and the zone, where somebody may be at the same bytes: by words, so that a copy may be torn
// but the behaviour is defined. Requires: room for whole words on both sides.
void store_words(std::byte* zone, const std::byte* from, std::uint64_t bytes) {
  for (std::uint64_t i = 0; i < bytes; i += 8) {
    std::uint64_t word;
    std::memcpy(&word, from + i, 8);
    __atomic_store_n(reinterpret_cast<std::uint64_t*>(zone + i), word, __ATOMIC_RELAXED);
  }
}
void load_words(std::byte* to, const std::byte* zone, std::uint64_t bytes) {
  for (std::uint64_t i = 0; i < bytes; i += 8) {
    std::uint64_t word = __atomic_load_n(reinterpret_cast<const std::uint64_t*>(zone + i), __ATOMIC_RELAXED);
    std::memcpy(to + i, &word, 8);
  }
}
constexpr std::uint64_t whole_words(std::uint64_t bytes) {
  return (bytes + 7) & ~std::uint64_t{7};
}

}  // namespace

std::optional<std::vector<std::byte>> Zone::copy_image() const {
  Offset offset = header_->image.load(kAcquire);
  if (offset == 0) return std::nullopt;
  std::uint64_t bytes = __atomic_load_n(&at<DocumentImage>(offset)->bytes, __ATOMIC_RELAXED);
  if (bytes < sizeof(DocumentImage) || bytes > header_->bytes - offset) return std::nullopt;
  std::vector<std::byte> copy(whole_words(bytes));
  load_words(copy.data(), at<std::byte>(offset), bytes);
  copy.resize(bytes);
  const auto& copied = *reinterpret_cast<const DocumentImage*>(copy.data());
  if (copied.bytes != bytes || copied.checksum != image_checksum(copied)) return std::nullopt;
  return copy;
}

std::vector<std::byte> Zone::make_image(const std::vector<ImageItem>& items, std::uint64_t document_version) {
  std::uint64_t end = sizeof(DocumentImage) + sizeof(ImageEntry) * items.size(), bytes = end;
  for (const auto& item : items) bytes += item.text.size();
  std::vector<std::byte> made(whole_words(bytes));
  auto* image = reinterpret_cast<DocumentImage*>(made.data());
  image->bytes = bytes;
  image->document_version = document_version;
  image->count = static_cast<std::uint32_t>(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    const auto& item = items[i];
    std::memcpy(made.data() + end, item.text.data(), item.text.size());
    image->entries[i] = {XXH3_64bits(item.text.data(), item.text.size()), static_cast<std::uint32_t>(end),
                         static_cast<std::uint32_t>(item.text.size()), item.block};
    end += item.text.size();
  }
  return made;
}

bool Zone::publish_image(std::vector<std::byte>& made) {
  auto* image = reinterpret_cast<DocumentImage*>(made.data());
  Offset before = header_->image.load(kRelaxed);
  // The image's own version counts as well: a leader may have been killed between the two stores below.
  std::uint64_t version = header_->plan_version.load(kRelaxed) + 1;
  if (before != 0) version = std::max(version, at<DocumentImage>(before)->version + 1);
  image->version = version;
  image->checksum = image_checksum(*image);
  std::vector<Offset> named;
  for (std::uint32_t i = 0; i < image->count; ++i) named.push_back(image->entries[i].block);
  std::sort(named.begin(), named.end());
  Offset offset = arena().allocate(image->bytes);
  if (offset == 0) return false;
  store_words(at<std::byte>(offset), made.data(), image->bytes);
  header_->image.store(offset, kRelease);
  header_->plan_version.store(version, kRelease);
  // A worker may be copying the one before; it checks what it copied.
  if (before != 0) arena().free(before, at<DocumentImage>(before)->bytes);
  auto* places = at<std::atomic<Offset>>(header_->blocks);
  for (int i = 0; i < kMaxBlocks; ++i) {
    Offset block = places[i].load(kRelaxed);
    if (block == 0 || std::binary_search(named.begin(), named.end(), block)) continue;
    std::uint64_t alive = 0;
    at<ExperimentBlock>(block)->retired.compare_exchange_strong(alive, version);
  }
  return true;
}

bool Zone::reserve_images(std::uint64_t bytes) noexcept {
  release_reserve();
  header_->reserve_bytes.store(bytes, kRelease);
  for (auto& place : header_->reserve) place.store(arena().allocate(bytes), kRelease);
  return header_->reserve[0].load(kRelaxed) != 0;
}

void Zone::release_reserve() noexcept {
  for (auto& place : header_->reserve) {
    if (Offset offset = place.exchange(0); offset != 0) arena().free(offset, header_->reserve_bytes.load(kRelaxed));
  }
}

}  // namespace experiment::shared
