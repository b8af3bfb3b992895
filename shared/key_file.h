// The generated key ring of a state directory: made once, by whichever process is first.
//
// Called in configuration, where experiment_keys names no file. The file is complete or absent at every moment, and
// readable by its maker only.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace experiment::shared {

// The text of `directory`/keys. A missing file is made (mode 0600) from generate() (shared/key_ring.h:
// generate_key_file); of several processes that do so at once, all get the text of one. Returns nullopt and in `error`
// path and reason.
std::optional<std::string> ensure_keys(const std::string& directory, const std::function<std::string()>& generate,
                                       std::string& error);

}  // namespace experiment::shared
