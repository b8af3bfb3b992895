// The directives of the module: one setter each, each bad use one [emerg] line with the token and what was expected.
#pragma once

#include "ngx_module/ngx.h"

namespace experiment::ngx {

extern ngx_command_t kDirectives[];

}  // namespace experiment::ngx
