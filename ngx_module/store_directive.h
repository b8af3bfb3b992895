// The directive experiment_store.
#pragma once

#include "ngx_module/conf.h"
#include "ngx_module/ngx.h"

namespace experiment::ngx {

// URL [namespace=NS] [user=NAME] [password_file=PATH] [ca=PATH] [certificate=PATH] [key=PATH] [name=SERVER_NAME]
// [connect_timeout=TIME] [command_timeout=TIME]
char* set_store(ngx_conf_t* cf, ngx_command_t* command, void* data) noexcept;
// What waits until the http block was read as a whole: keys, the resolver. Requires: conf.store.
char* complete_store(ngx_conf_t* cf, MainConf& conf) noexcept;

}  // namespace experiment::ngx
