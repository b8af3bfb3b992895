// The text of the metrics page, in Prometheus' format 0.0.4, made a piece at a time: one table of families, gone
// through family by family, in each experiment by experiment and arm by arm. Labels are keys and small enumerations,
// never a unit. Counters are read when their line is written; nothing is allocated.
#pragma once

#include <cstddef>

#include "ngx_module/plan.h"
#include "shared/zone.h"

namespace experiment::ngx {

class MetricsText {
 public:
  // Without a plan the text is its last line. `fleet`: the node has a store that it shares. Requires: the plan outlives
  // the text.
  MetricsText(const Plan* plan, const shared::Zone& zone, bool fleet) noexcept;

  // Writes on. Returns: the end of what was written: whole lines, as many as fit or some hundreds. Requires: room for
  // the longest family's lines of one arm, 8 kB.
  char* write(char* begin, char* end) noexcept;
  bool complete() const noexcept { return complete_; }

 private:
  void advance() noexcept;

  const Plan* plan_;
  shared::Zone zone_;
  bool fleet_;
  std::size_t family_;  // the place in the text: an arm of an experiment in a family
  std::size_t experiment_ = 0;
  std::size_t row_ = 0;
  bool complete_ = false;
};

}  // namespace experiment::ngx
