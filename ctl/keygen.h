// experimentctl keygen: a new key for the key ring of experiment_keys.
#pragma once

#include <string>

#include "ctl/output.h"

namespace experiment::ctl {

// `file`: a key file that the key is appended to, made (0600) when it is missing; empty: standard output.
int keygen(const std::string& file, Output& output);

}  // namespace experiment::ctl
