// Who runs this command: what kills, documents and the audit log say under "by".
#pragma once

#include <string>

namespace experiment::ctl {

// "experimentctl (user NAME)".
std::string author();

}  // namespace experiment::ctl
