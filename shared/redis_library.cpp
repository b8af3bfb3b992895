#include "shared/redis_library.h"

#include <openssl/sha.h>

#include <array>
#include <cstdint>

// Every build names the root of the repository by -I, where the assembler looks as well. The symbols are this file's
// own, for none is .global.
asm(R"(
  .pushsection .rodata
kExperimentRedisLibrary:
  .incbin "shared/redis/experiment.lua"
kExperimentRedisScriptBegin:
  .incbin "shared/redis/script_begin.lua"
kExperimentRedisScriptEnd:
  .incbin "shared/redis/script_end.lua"
kExperimentRedisTextsEnd:
  .byte 0
  .popsection
)");

extern "C" {
__attribute__((visibility("hidden"))) extern const char kExperimentRedisLibrary[];
__attribute__((visibility("hidden"))) extern const char kExperimentRedisScriptBegin[];
__attribute__((visibility("hidden"))) extern const char kExperimentRedisScriptEnd[];
__attribute__((visibility("hidden"))) extern const char kExperimentRedisTextsEnd[];
}

namespace experiment::shared {
namespace {

std::string_view between(const char* begin, const char* end) noexcept {
  return {begin, static_cast<std::size_t>(end - begin)};
}

}  // namespace

std::string_view library_source() noexcept {
  return between(kExperimentRedisLibrary, kExperimentRedisScriptBegin);
}

std::string script_source() {
  // Without its first line, which names the library and is no Lua.
  const std::string_view library = library_source();
  std::string script(between(kExperimentRedisScriptBegin, kExperimentRedisScriptEnd));
  script += library.substr(library.find('\n') + 1);
  script += between(kExperimentRedisScriptEnd, kExperimentRedisTextsEnd);
  return script;
}

std::string script_sha() {
  const std::string script = script_source();
  std::array<std::uint8_t, SHA_DIGEST_LENGTH> digest;
  SHA1(reinterpret_cast<const unsigned char*>(script.data()), script.size(), digest.data());
  std::string hex;
  for (const std::uint8_t byte : digest) {
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  return hex;
}

}  // namespace experiment::shared
