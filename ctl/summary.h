// What there is to say of one experiment: its state, its variants' shares, and the counts of its generation.
//
// Pure: made from a snapshot of the store. Counts are sums over the generation's epochs and all edge instances, so the
// rates are those of the visitors that were seen; between variants whose shares changed over time they are no unbiased
// comparison (the result page has that).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ctl/state.h"

namespace experiment::ctl {

struct GoalTotals {
  std::string key;
  bool value = false;
  std::uint64_t rewarded = 0;  // units with a reward
  double sum = 0;              // value goals: in the currency
};

struct RowTotals {
  std::string variant;
  double share = 0;  // of the current epoch's slots; 0 before the first
  bool killed = false;
  std::uint64_t exposures = 0;
  std::vector<GoalTotals> goals;
};

struct Summary {
  std::string key, state;  // killed, or what the document desires, or "not in the document"
  std::string why;         // of a killed or switched-off one
  std::uint32_t generation = 0, revision = 0;
  std::uint64_t epoch = 0;  // current; 0: none yet
  std::size_t open_epochs = 0, epochs = 0;
  std::vector<shared::Kill> kills;  // those that stand
  std::vector<RowTotals> variants;
  RowTotals baseline;
  std::uint64_t skipped_vectors = 0;  // counts of epochs that the runtime state no longer describes
};

// "running", "frozen", ...: as the document says it.
std::string desired_text(bandit::Desired desired);
// Of every experiment that the document or the runtime state knows, in the document's order.
std::vector<Summary> summarize(const Snapshot& now);

}  // namespace experiment::ctl
