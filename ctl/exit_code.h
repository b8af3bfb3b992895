// What experimentctl tells its caller by its exit code; the same for every verb and printed by --help.
#pragma once

namespace experiment::ctl {

enum ExitCode {
  kOk = 0,
  kRefused = 1,      // invalid document, unknown variant, or a kill file's line that still stands
  kUsage = 2,        // the command line says nothing that could be done
  kNothing = 3,      // no such experiment, or nothing to lift
  kUnreachable = 4,  // the store or the file cannot be read or written
};

}  // namespace experiment::ctl
