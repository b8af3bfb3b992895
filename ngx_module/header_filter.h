// The two header filters: the first runs before not_modified (counting, validators, inward isolation), the outward one
// after nginx's headers filter (cookies, Cache-Control). Their places in the chain are set in `config`.
#pragma once

namespace experiment::ngx {

void install_first_filter() noexcept;
void install_outward_filter() noexcept;

}  // namespace experiment::ngx
