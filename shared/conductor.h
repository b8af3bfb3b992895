// The leader's mind: what the node believes about document, runtime and fleet totals, and one step of bringing that up
// to date.
//
// A step exchanges with the store, validates a new document, reads the kill file, reconciles, looks at the adaptive
// experiments, and writes what came of it back before it shows it. It blocks on files, so the module runs steps in
// nginx's thread pool, one at a time; between steps the event loop reads the results. experimentctl and the tests run
// it inline. Nothing escapes but std::bad_alloc.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "shared/allocate.h"
#include "shared/definition_json.h"
#include "shared/kill_file.h"
#include "shared/reconcile.h"
#include "shared/store.h"

namespace experiment::shared {

struct StepInput {
  std::int64_t now_ms = 0;                           // unix time
  std::optional<Counters> totals;                    // this zone's, when they were collected: then the allocator looks
  bool flush = false;                                // write them to the store
  std::optional<std::string> report = std::nullopt;  // what this edge does: Exchange::report
  bool hint = false;                                 // something changed in the store, it is said
};

enum class Severity : std::uint8_t { kNotice, kWarning, kError };
struct Message {
  Severity severity;
  std::string text;
};

class Conductor {
 public:
  // `kill_file`: empty when there is none.
  Conductor(std::unique_ptr<Store> store, std::string kill_file, RandomBits random);

  // Returns: what is worth a line in the log; a cause that lasts is said again at most every ten seconds.
  std::vector<Message> step(const StepInput& input);
  // Writes the totals and nothing else, at the end of a process.
  std::vector<Message> flush(Counters totals, std::int64_t now_ms);

  // Before the first step: a runtime that the leader before could not store (encode_runtime). It is taken when the
  // store still has the version it was made from.
  void restore(std::string_view text);
  // Whether runtime() is ahead of the store.
  bool unsaved() const noexcept { return unsaved_; }

  // The state after the last step. `changes` moves when document or runtime did.
  std::uint64_t changes() const noexcept { return changes_; }
  const ParsedDocument& document() const noexcept { return document_; }
  std::uint64_t document_version() const noexcept { return document_version_; }
  const Runtime& runtime() const noexcept { return runtime_; }
  // Whether the store could ever be read, document and runtime: a leader that took over without it believes nothing,
  // which is not "none".
  bool has_read() const noexcept { return document_version_ != 0 && !runtime_unread_; }
  // P(arm is best) by experiment, of the adaptive ones that are past their warm-up; of none where another node
  // allocates.
  const std::map<std::string, std::vector<double>>& p_best() const noexcept { return p_best_; }
  // Totals of this instance that the store has: of epochs whose blocks the zone has dropped as well.
  const Counters& own() const noexcept { return own_; }
  // Whether the store waits for totals that it lacks: a step with `flush` is due before its turn.
  bool wants_flush() const noexcept { return wants_flush_; }
  // Unix time of the totals that the store last took; 0: none yet.
  std::int64_t flushed_ms() const noexcept { return flushed_ms_; }

 private:
  Exchange ask() const;
  std::vector<std::string> learning() const;
  bool take_restored();
  void load_last_good();
  bool adopt(Answer& answer, std::int64_t now_ms);
  void tell_kills(const Runtime& next);
  void adopt_document(const StoredDocument& stored, std::int64_t now_ms);
  bool apply_kill_file(std::int64_t now_ms);
  bool add_kill(const KillLine& line, std::int64_t now_ms);
  std::vector<Change> bring_in_line(std::int64_t now_ms);
  bool look(const Counters& totals, const std::vector<std::string>& learned, std::int64_t now_ms);
  bool publish(std::int64_t now_ms);
  void say(Severity severity, std::string text) { messages_.push_back({severity, std::move(text)}); }
  void say_again(Severity severity, const std::string& text, std::int64_t now_ms);

  std::unique_ptr<Store> store_;
  std::string kill_path_;
  RandomBits random_;
  ParsedDocument document_;
  std::string accepted_text_;           // to be kept as the last good one
  bool document_accepted_ = false;      // since start
  std::uint64_t seen_document_ = 0;     // version that was read last, refused ones included
  std::uint64_t document_version_ = 0;  // version in use
  Runtime runtime_;
  std::uint64_t stored_runtime_ = 0;  // version that the store has
  bool runtime_unread_ = false;       // there is one, and it could not be read yet
  std::optional<Runtime> restored_;   // of the leader before, until the store was read
  bool unsaved_ = false;              // runtime_ is ahead of the store
  bool allocates_ = true;             // by the last answer
  Runtime unsaved_kills_;             // of the kill file; none is lost to what another wrote
  bool store_writable_ = true;
  Counters own_;  // of this instance, as the store has them
  Counters others_;
  std::uint64_t others_mark_ = 0;
  std::int64_t flushed_ms_ = 0;
  bool wants_flush_ = false;
  std::string kill_text_;
  std::map<std::string, std::vector<double>> p_best_;
  std::uint64_t changes_ = 0;
  std::vector<Message> messages_;
  std::map<std::string, std::int64_t> said_;  // causes, and when
};

}  // namespace experiment::shared
