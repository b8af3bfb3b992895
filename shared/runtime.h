// Runtime state: what happened to the experiments, apart from what the document wants. Killed, allocation, epochs,
// generations.
//
// Written by the leader of a node and by experimentctl through the Store with compare-and-set on `version`; never
// undone by publishing a document. Arms and goals are append-only within a generation: their index here is the arm
// number and goal number everywhere else.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bandit/definition.h"
#include "bandit/slot_table.h"

namespace experiment::shared {

struct Kill {
  std::string variant;  // empty: the whole experiment
  std::string reason;
  std::string by;         // who: "kill file PATH", "experimentctl"
  std::int64_t at_s = 0;  // unix time
};

struct EpochRecord {
  std::uint64_t id = 0;         // number * 2^20 + 20 random bits; below 2^48
  std::int64_t started_ms = 0;  // unix time
  std::int64_t ended_ms = 0;    // 0: current
  bool sealed = false;
  std::vector<int> quotas;  // slots of each arm; also says how many arms it has
  int goals = 0;            // how many of the generation's goals it counts
};

struct GoalRecord {
  std::string key;
  bandit::GoalKind kind = bandit::GoalKind::kConversion;
  bandit::ValuePer per = bandit::ValuePer::kFirst;
  std::uint8_t scale = 2;
  std::uint64_t max = 0;
};

struct ExperimentRuntime {
  std::uint32_t generation = 1;
  std::uint64_t generation_signature = 0;  // of salt, unit, control, baseline, goals' kinds and max
  std::uint32_t revision = 1;              // bumped by a generation or a change of variants or payloads
  std::uint64_t revision_signature = 0;
  std::vector<std::string> arms;  // variant keys by arm number
  std::vector<GoalRecord> goals;  // by goal number
  std::vector<Kill> kills;
  std::vector<EpochRecord> epochs;  // oldest first; the last one assigns; empty until it first runs
  std::string runs;                 // the last epoch's table, bandit::encode_runs
  std::int64_t started_ms = 0;      // of the generation's first epoch: where warm-up begins
};

struct Runtime {
  std::uint64_t version = 0;
  std::vector<Kill> kill_all;                                         // non-empty: everything is killed
  std::map<std::string, ExperimentRuntime, std::less<>> experiments;  // by key; kept when the document drops one
};

// JSON text with its checksum: {"format":1,"checksum":"<16 hex of XXH3_64 of the dumped state>","state":{...}}.
std::string encode_runtime(const Runtime& runtime);
// Returns nullopt and says why in `error` (place, value, expectation) when the text is not a runtime that was written
// whole.
std::optional<Runtime> decode_runtime(std::string_view text, std::string& error);

}  // namespace experiment::shared
