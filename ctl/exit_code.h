// What experimentctl tells its caller by its exit code; the same for every verb and printed by --help.
#pragma once

namespace experiment::ctl {

enum ExitCode {
  kOk = 0,
  kRefused = 1,             // invalid document, unknown variant, a kill file's line that still stands; doctor: findings
  kUsage = 2,               // the command line says nothing that could be done
  kNothing = 3,             // no such experiment, or nothing to do
  kUnreachable = 4,         // the store or the file cannot be read or written
  kConflict = 5,            // another version of the document stands than was expected
  kStaysKilled = kNothing,  // published, and something that the document wants running stays killed
};

}  // namespace experiment::ctl
