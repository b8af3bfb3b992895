#include "ctl/publish.h"

#include <utility>

#include "ctl/document_changes.h"
#include "ctl/edges.h"
#include "ctl/input.h"
#include "ctl/placements.h"

namespace experiment::ctl {
namespace {

constexpr int kAttempts = 10;

class Publisher {
 public:
  Publisher(const PublishOptions& options, State& state) : options_(options), state_(state), output_(state.output()) {}

  int run() {
    const shared::FileText input = read_input(options_.file);
    if (!input.error.empty()) return output_.fail(kUnreachable, input.error);
    int code = read_first();
    if (code != kOk) return code;
    shared::DefinitionError error;
    auto parsed = shared::parse_document(input.text, error);
    if (!parsed) {
      return output_.fail(kRefused,
                          options_.file + " refused " + shared::describe(error) + "; " + stands() + " stays in use");
    }
    for (const std::string& warning : parsed->warnings) output_.warn(options_.file + ": " + warning);
    for (const std::string& line : unplaced(parsed->document, read_edges(state_))) output_.warn(line);
    for (int attempt = 1; attempt <= kAttempts; ++attempt) {
      const std::uint64_t before = now_.stored.version;
      if (options_.expected && *options_.expected != before) return conflict(before);
      if (options_.dry_run || input.text == now_.stored.text) return tell(*parsed, before, before);
      const shared::Published done = state_.publish(input.text, before);
      if (!done.error.empty()) return output_.fail(kUnreachable, done.error);
      if (done.written) {
        state_.record("publish", {}, options_.reason, detail(before, done.version));
        return tell(*parsed, before, done.version);
      }
      code = state_.read(now_);
      if (code != kOk) return code;
    }
    return conflict(now_.stored.version);
  }

 private:
  // A store without a document has nothing to complain of when it is given one.
  int read_first() {
    std::vector<std::string> errors;
    if (!state_.look(now_, errors) || now_.stored.version != 0) return state_.read(now_);
    return kOk;
  }

  static std::string detail(std::uint64_t before, std::uint64_t after) {
    return "definitions " + std::to_string(before) + " -> " + std::to_string(after);
  }

  std::string stands() const {
    return now_.document_version == 0 ? "no document" : "version " + std::to_string(now_.document_version);
  }

  int conflict(std::uint64_t version) const {
    const std::string expected =
        options_.expected ? "expected version " + std::to_string(*options_.expected) : "others publish all the time";
    return output_.fail(kConflict,
                        "definitions " + std::to_string(version) + " stand, " + expected + "; nothing was published");
  }

  int tell(const shared::ParsedDocument& parsed, std::uint64_t before, std::uint64_t after) const {
    const auto changes = changes_between(now_.parsed, parsed, now_.runtime, now_s() * 1000);
    const auto kills = stays_killed(parsed.document, now_.runtime, {});
    const bool same = !options_.dry_run && before == after;
    std::string text;
    if (same) {
      text = "definitions " + std::to_string(before) + " are this very text; nothing was published\n";
    } else {
      text = to_text(changes);
    }
    text += to_text(kills);
    if (options_.dry_run) text += "dry run: nothing was published, definitions " + std::to_string(before) + " stand\n";
    if (before != after) text += detail(before, after) + ": published\n";
    return output_.end(kills.empty() ? kOk : kStaysKilled, text,
                       {{"version", after},
                        {"replaced", before},
                        {"published", before != after},
                        {"changes", to_json(changes)},
                        {"stays_killed", to_json(kills)}});
  }

  const PublishOptions& options_;
  State& state_;
  Output& output_;
  Snapshot now_;
};

}  // namespace

int publish(const PublishOptions& options, State& state) {
  return Publisher(options, state).run();
}

}  // namespace experiment::ctl
