// Rewards: a goal reached by a location, a response header of the backend, or a beacon. Credited to every experiment
// with that goal in which this request's unit has an exposure within the window. Arm and epoch come from the signed
// cookie or are derived again, never from the client.
#pragma once

#include "ngx_module/pin.h"

namespace experiment::ngx {

struct Reward {
  std::string_view goal;
  std::string_view value;  // decimal amount; only value goals read it
  std::string_view id;     // counts once per id, where there is one
};

// Counts one reward. False: no definition has the goal.
bool count_reward(ngx_http_request_t* r, Pin& pin, const Reward& reward) noexcept;
// Rewards of the location's experiment_reward directives, on 2xx and 3xx answers. Called by the header filter.
void count_location_rewards(ngx_http_request_t* r, Pin& pin) noexcept;
// Takes Experiment-Reward out of an answer and counts it when the answer came from upstream for this request; such an
// answer is not stored. `pin` is nullptr for subrequests, which are not counted.
void harvest(ngx_http_request_t* r, Pin* pin) noexcept;

}  // namespace experiment::ngx
