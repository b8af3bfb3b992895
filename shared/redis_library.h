// The library that runs inside Redis (shared/redis/experiment.lua), as it is loaded into servers.
//
// Servers with Functions (Redis 7, Valkey) get library_source() by FUNCTION LOAD REPLACE. Others get script_source() by
// SCRIPT LOAD, and a function is called as EVALSHA script_sha() 1 KEY FUNCTION ARGUMENT...: both are made of one text,
// so they do the same. The texts are part of the binary, immutable, and may be used by any thread.
#pragma once

#include <string>
#include <string_view>

namespace experiment::shared {

// What experiment_version answers. Raised with each change of experiment.lua that servers must have.
inline constexpr int kLibraryVersion = 2;
inline constexpr std::string_view kLibraryName = "experiment";

std::string_view library_source() noexcept;
std::string script_source();
// 40 hex digits of the SHA-1 of script_source(), by which servers know it.
std::string script_sha();

}  // namespace experiment::shared
