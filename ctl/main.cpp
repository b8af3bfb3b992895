// experimentctl: the command line of the experimentation engine. START HERE: arguments only, one file per verb.
#include <exception>
#include <functional>
#include <iostream>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "ctl/check.h"
#include "ctl/exit_code.h"
#include "ctl/kill.h"
#include "ctl/output.h"
#include "ctl/resume.h"
#include "ctl/status.h"
#include "ctl/target.h"

namespace experiment::ctl {
namespace {

constexpr const char* kExitCodes =
    "Exit codes:\n"
    "  0  done; kill: also when it was killed before\n"
    "  1  refused: the document is invalid, there is no such variant, or a kill file's line still stands\n"
    "  2  the command line is wrong\n"
    "  3  nothing to do: no such experiment, or it is not killed\n"
    "  4  the state directory or the file cannot be read or written";

struct Arguments {
  bool json = false, all = false;
  std::string file, key, target, reason, directory;
};

// Reasons end in terminals and logs.
std::string check_reason(const std::string& reason) {
  constexpr std::size_t kMaxBytes = 500;
  if (reason.empty() || reason.size() > kMaxBytes) return "a reason of 1 to 500 bytes is needed";
  for (const char c : reason) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return "a reason without control characters is needed";
  }
  return {};
}

using TargetVerb = int (*)(const Target&, const std::string&, const std::string&, Output&);

int run_on_target(TargetVerb verb, const Arguments& arguments, Output& output) {
  std::string error;
  const std::optional<Target> target = parse_target(arguments.target, arguments.all, error);
  if (!target) return output.fail(kUsage, error);
  return verb(*target, arguments.reason, arguments.directory, output);
}

CLI::App* add_verb(CLI::App& app, const char* name, const char* description, Arguments& arguments) {
  CLI::App* verb = app.add_subcommand(name, description);
  verb->add_flag("--json", arguments.json, "print one JSON object");
  verb->footer(kExitCodes);
  return verb;
}

void add_state(CLI::App* verb, Arguments& arguments) {
  verb->add_option("--state", arguments.directory, "state directory, as in experiment_zone")
      ->required()
      ->type_name("DIR");
}

void add_target(CLI::App* verb, Arguments& arguments) {
  verb->add_option("target", arguments.target, "experiment, or one of its variants")->type_name("KEY[/VARIANT]");
  verb->add_flag("--all", arguments.all, "everything, whatever the document says");
  verb->add_option("--reason", arguments.reason, "why; recorded or printed for those who look later")
      ->required()
      ->check(check_reason)
      ->type_name("TEXT");
  add_state(verb, arguments);
}

int run(int argc, char** argv) {
  Arguments arguments;
  std::function<int(Output&)> chosen;
  CLI::App app("Experiments at the edge: check, watch and stop them.", "experimentctl");
  app.require_subcommand(1);
  app.footer(kExitCodes);

  CLI::App* verb = add_verb(app, "check", "Would a node accept this document?", arguments);
  verb->add_option("file", arguments.file, "definition document, - for standard input")->required()->type_name("FILE");
  verb->callback([&] { chosen = [&](Output& output) { return check(arguments.file, output); }; });

  verb = add_verb(app, "status", "What do the experiments do?", arguments);
  verb->add_option("key", arguments.key, "only this experiment")->type_name("KEY");
  add_state(verb, arguments);
  verb->callback([&] { chosen = [&](Output& output) { return status(arguments.key, arguments.directory, output); }; });

  verb = add_verb(app, "kill", "Take an experiment, a variant or everything out at once, until resume.", arguments);
  add_target(verb, arguments);
  verb->callback([&] { chosen = [&](Output& output) { return run_on_target(kill, arguments, output); }; });

  verb = add_verb(app, "resume", "Lift a kill or a rollback.", arguments);
  add_target(verb, arguments);
  verb->callback([&] { chosen = [&](Output& output) { return run_on_target(resume, arguments, output); }; });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  Output output(arguments.json);
  return chosen(output);
}

}  // namespace
}  // namespace experiment::ctl

int main(int argc, char** argv) {
  try {
    return experiment::ctl::run(argc, argv);
  } catch (const std::exception& problem) {
    std::cerr << "experimentctl: " << problem.what() << '\n';
    return experiment::ctl::kUnreachable;
  }
}
