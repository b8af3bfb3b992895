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

// Kills are a set to which nodes and people add without asking each other, and of which only a resume takes away what
// it has seen: a kill keeps its id, and the one that was lifted stays as a record of that, so that no older copy of the
// state brings it back.
struct Lift {
  std::string by, reason;
  std::int64_t at_s = 0;  // unix time
};
struct Kill {
  std::string variant;  // empty: the whole experiment
  std::string reason;
  std::string by;         // who: "kill file PATH", "experimentctl"
  std::int64_t at_s = 0;  // unix time
  std::uint64_t id = 0;   // random; 0: made before kills had one, told apart by what it says
  std::optional<Lift> lifted = std::nullopt;
  bool stands() const noexcept { return !lifted; }
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
  std::uint64_t document = 0;  // version of the document that it was last brought in line with; 0: not known
  std::vector<Kill> kill_all;  // one that stands: everything is killed
  std::map<std::string, ExperimentRuntime, std::less<>> experiments;  // by key; kept when the document drops one
};

// What both know, the newer of it where they differ: the join of two copies of one state, whatever happened to them in
// between (a failover that forgot, a node that was cut off). Commutative, associative and idempotent but for `version`,
// which is the larger one. Generations: the higher one. Epochs of one generation: united by id, the highest assigns.
// Kills: united, lifted wins.
Runtime join(const Runtime& a, const Runtime& b);
bool operator==(const ExperimentRuntime& a, const ExperimentRuntime& b);

// One experiment's state as JSON text, and back: as in encode_runtime, without a checksum.
std::string encode_experiment_runtime(const ExperimentRuntime& experiment);
std::optional<ExperimentRuntime> decode_experiment_runtime(std::string_view text, std::string& error);
std::string encode_kills(const std::vector<Kill>& kills);
std::optional<std::vector<Kill>> decode_kills(std::string_view text, std::string& error);

// JSON text with its checksum: {"format":1,"checksum":"<16 hex of XXH3_64 of the dumped state>","state":{...}}.
std::string encode_runtime(const Runtime& runtime);
// Returns nullopt and says why in `error` (place, value, expectation) when the text is not a runtime that was written
// whole.
std::optional<Runtime> decode_runtime(std::string_view text, std::string& error);

}  // namespace experiment::shared
