// experimentctl: the command line of the experimentation engine. START HERE: arguments only, one file per verb.
#include <exception>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <utility>

#include <CLI/CLI.hpp>

#include "ctl/audit.h"
#include "ctl/check.h"
#include "ctl/doctor.h"
#include "ctl/exit_code.h"
#include "ctl/history.h"
#include "ctl/keygen.h"
#include "ctl/kill.h"
#include "ctl/lifecycle.h"
#include "ctl/list.h"
#include "ctl/open_store.h"
#include "ctl/output.h"
#include "ctl/publish.h"
#include "ctl/reset.h"
#include "ctl/resume.h"
#include "ctl/status.h"
#include "ctl/target.h"

namespace experiment::ctl {
namespace {

constexpr const char* kExitCodes =
    "Exit codes:\n"
    "  0  done, or it was so before\n"
    "  1  refused: the document is invalid, there is no such variant, or a kill file's line still stands;\n"
    "     doctor: there is something to change\n"
    "  2  the command line is wrong\n"
    "  3  nothing to do: no such experiment, or it is not killed, or has not run;\n"
    "     publish, start, freeze, conclude: done, and something that the document wants running stays killed\n"
    "  4  the store or the file cannot be read or written\n"
    "  5  another version of the document stands than was expected";

// Reasons end in terminals and logs.
std::string check_reason(const std::string& reason) {
  constexpr std::size_t kMaxBytes = 500;
  if (reason.empty() || reason.size() > kMaxBytes) return "a reason of 1 to 500 bytes is needed";
  for (const char c : reason) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return "a reason without control characters is needed";
  }
  return {};
}

class CommandLine {
 public:
  CommandLine() {
    app_.require_subcommand(1);
    app_.footer(kExitCodes);
    add_document_verbs();
    add_watching_verbs();
    add_lifecycle_verbs();
    add_kill_verbs();
    add_upkeep_verbs();
  }

  int run(int argc, char** argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      return app_.exit(error) == 0 ? kOk : kUsage;
    }
    Output output(json_);
    return chosen_(output);
  }

 private:
  using OnState = std::function<int(State&)>;

  CLI::App* add_verb(const char* name, const char* description) {
    CLI::App* verb = app_.add_subcommand(name, description);
    verb->add_flag("--json", json_, "print one JSON object");
    verb->footer(kExitCodes);
    return verb;
  }

  // Where: a state directory or a fleet's Redis. `least`: 0 where a verb can do without.
  void add_store(CLI::App* verb, int least = 1) {
    CLI::Option_group* where = verb->add_option_group("where", "one of");
    where->add_option("--state", store_.state, "state directory, as in experiment_zone")->type_name("DIR");
    where->add_option("--store", store_.url, "Redis of a fleet, as in experiment_store")->type_name("URL");
    where->require_option(least, 1);
    shared::RedisAccess& access = store_.access;
    const auto add = [&](const char* name, std::string& value, const char* description, const char* type) {
      verb->add_option(name, value, description)->type_name(type)->group("with --store");
    };
    add("--namespace", store_.name_space, "prefix of its keys (default: experiment)", "NAME");
    add("--user", access.user, "ACL user", "NAME");
    add("--password-file", access.password_file, "its first line is the password", "FILE");
    add("--ca", access.ca_file, "certificates that are trusted (default: the system's)", "FILE");
    add("--certificate", access.certificate_file, "of a client", "FILE");
    add("--key", access.key_file, "of that certificate", "FILE");
    add("--server-name", access.server_name, "that the server's certificate must have (default: the host)", "NAME");
  }

  // A verb that works on a store.
  CLI::App* add_verb(const char* name, const char* description, OnState run) {
    CLI::App* verb = add_verb(name, description);
    add_store(verb);
    verb->callback(
        [this, run = std::move(run)] { chosen_ = [this, run](Output& output) { return on_state(run, output); }; });
    return verb;
  }

  // One that writes the document.
  CLI::App* add_publishing_verb(const char* name, const char* description, OnState run) {
    return add_verb(name, description, [this, run = std::move(run)](State& state) {
      const std::string refusal = refuse_documents(store_);
      return refusal.empty() ? run(state) : state.output().fail(kRefused, refusal);
    });
  }

  int on_state(const OnState& run, Output& output) const {
    std::string error;
    auto store = open_store(store_, error);
    if (store == nullptr) return output.fail(kUnreachable, error);
    State state(std::move(store), store_.place(), output);
    return run(state);
  }

  CLI::Option* add_reason(CLI::App* verb) {
    return verb->add_option("--reason", reason_, "why; recorded for those who look later")
        ->check(check_reason)
        ->type_name("TEXT");
  }

  void add_key(CLI::App* verb) { verb->add_option("experiment", key_, "its key")->required()->type_name("KEY"); }

  void add_file(CLI::App* verb) {
    verb->add_option("file", file_, "definition document, - for standard input")->required()->type_name("FILE");
  }

  void add_document_verbs() {
    CLI::App* verb = add_verb("check", "Would a node accept this document, and does an edge apply what it defines?");
    add_file(verb);
    add_store(verb, 0);  // whose edges it is compared with
    verb->callback([this] {
      chosen_ = [this](Output& output) {
        if (!store_.given()) return check(file_, nullptr, output);
        return on_state([&](State& state) { return check(file_, &state, output); }, output);
      };
    });

    verb = add_publishing_verb("publish", "Make a document the one that every node follows, and say what that changes.",
                               [this](State& state) {
                                 return publish({file_, reason_, expected_, dry_run_}, state);
                               });
    add_file(verb);
    verb->add_flag("--dry-run", dry_run_, "only say what it would change");
    verb->add_option("--expect", expected_, "publish only if this version stands")->type_name("VERSION");
    add_reason(verb);

    verb = add_verb("history", "Which documents were published? With a version: its text.",
                    [this](State& state) { return history(version_, state); });
    verb->add_option("version", version_, "print this one")->type_name("VERSION")->check(CLI::PositiveNumber);
  }

  void add_watching_verbs() {
    add_verb("list", "A line for each experiment.", [](State& state) { return list(state); });

    CLI::App* verb = add_verb("status", "What do the experiments do, and which edges have applied it?",
                              [this](State& state) { return watch_ ? watch(key_, state) : status(key_, state); });
    verb->add_option("experiment", key_, "only this one")->type_name("KEY");
    verb->add_flag("--watch", watch_, "again every two seconds, until it is interrupted");

    verb = add_verb("audit", "Who did what, newest first.", [this](State& state) { return audit(limit_, state); });
    verb->add_option("--limit", limit_, "at most so many entries")
        ->capture_default_str()
        ->type_name("N")
        ->check(CLI::PositiveNumber);
  }

  CLI::App* add_lifecycle_verb(const char* name, const char* desired, const char* description) {
    CLI::App* verb = add_publishing_verb(name, description, [this, name, desired](State& state) {
      return change_desired({name, key_, reason_, {desired, winner_, holdback_}}, state);
    });
    add_key(verb);
    return verb;
  }

  void add_lifecycle_verbs() {
    add_reason(add_lifecycle_verb("start", "running", "Let an experiment run."));
    add_reason(add_lifecycle_verb("freeze", "frozen", "Take in nobody new; who has a variant keeps it."));
    add_reason(add_lifecycle_verb("stop", "stopped", "Everyone sees the page as it is; rewards still count."));
    add_reason(add_lifecycle_verb("archive", "archived", "Keep definition and result on file."));
    CLI::App* verb = add_lifecycle_verb("conclude", "concluded", "Everyone gets the winner.");
    verb->add_option("--winner", winner_, "variant")->required()->type_name("VARIANT");
    verb->add_option("--holdback", holdback_, "share that still sees the page as it is")->type_name("SHARE");
    add_reason(verb)->required();
    verb = add_verb("reset", "Begin anew as another generation: counts, and who sees what.",
                    [this](State& state) { return reset(key_, reason_, state); });
    add_key(verb);
    add_reason(verb)->required();
  }

  void add_kill_verb(const char* name, const char* description, int (*run)(const Target&, const std::string&, State&)) {
    CLI::App* verb = add_verb(name, description);
    verb->add_option("target", target_, "experiment, or one of its variants")->type_name("KEY[/VARIANT]");
    verb->add_flag("--all", all_, "everything, whatever the document says");
    add_reason(verb)->required();
    add_store(verb);
    verb->callback([this, run] {
      chosen_ = [this, run](Output& output) {
        std::string error;
        const std::optional<Target> target = parse_target(target_, all_, error);
        if (!target) return output.fail(kUsage, error);
        return on_state([&](State& state) { return run(*target, reason_, state); }, output);
      };
    });
  }

  void add_kill_verbs() {
    add_kill_verb("kill", "Take an experiment, a variant or everything out at once, until resume.", kill);
    add_kill_verb("resume", "Lift a kill or a rollback.", resume);
  }

  void add_upkeep_verbs() {
    CLI::App* verb = add_verb("keygen", "Make a key for experiment_keys.");
    verb->add_option("file", file_, "key file that it is appended to; without: standard output")->type_name("FILE");
    verb->callback([this] { chosen_ = [this](Output& output) { return keygen(file_, output); }; });
    verb = add_verb("doctor", "What is wrong, and what to change?",
                    [this](State& state) { return doctor(store_, load_, state); });
    verb->add_flag("--load", load_, "put this version of the library on the servers of a fleet first");
  }

  CLI::App app_{"Experiments at the edge: publish, watch and stop them.", "experimentctl"};
  std::function<int(Output&)> chosen_;
  StoreArguments store_;
  bool json_ = false, all_ = false, dry_run_ = false, watch_ = false, load_ = false;
  std::string file_, key_, target_, reason_, winner_;
  std::optional<std::uint64_t> expected_;
  std::optional<double> holdback_;
  std::uint64_t version_ = 0;
  std::size_t limit_ = 50;
};

}  // namespace
}  // namespace experiment::ctl

int main(int argc, char** argv) {
  try {
    return experiment::ctl::CommandLine().run(argc, argv);
  } catch (const std::exception& problem) {
    std::cerr << "experimentctl: " << problem.what() << '\n';
    return experiment::ctl::kUnreachable;
  }
}
