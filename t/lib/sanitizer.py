"""The runtimes of an instrumented module in a process that is not: preloaded, and their reports found.

A module linked with ASan (`make asan`) says so itself: nothing here does anything for any other.
"""
import os
import pathlib
import re
import subprocess

REPORT = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:")
SUPPRESSIONS = pathlib.Path(__file__).resolve().parent / "lsan.supp"
# What nginx has to hand on to a binary that it executes itself.
VARIABLES = ("LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS")


def runtimes(binary):
    """Paths of the runtimes that `binary` was linked with, in order of preloading; none for a plain one."""
    if not binary.exists() or b"libasan.so" not in binary.read_bytes():
        return []
    linked = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=True).stdout
    paths = dict(re.findall(r"(lib\w+(?:\+\+)?)\.so\S* => (\S+)", linked))
    # ASan looks for __cxa_throw when it starts, so C++ has to be there by then.
    return [paths[name] for name in ("libasan", "libubsan", "libstdc++") if name in paths]


def environment(binary, folder, base=None):
    """`base` with what a process needs that loads `binary`, reports going to `folder`; None: nothing."""
    preload = runtimes(binary)
    if not preload:
        return None
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)  # workers run as nobody
    common = f"log_path={folder}/report:log_exe_name=1"
    return {**(os.environ if base is None else base), "LD_PRELOAD": " ".join(preload),
            "ASAN_OPTIONS": f"{common}:detect_leaks=1:detect_stack_use_after_return=1:strict_init_order=1",
            "UBSAN_OPTIONS": f"{common}:print_stacktrace=1",
            "LSAN_OPTIONS": f"suppressions={SUPPRESSIONS}:print_suppressions=0"}


def reports(folder):
    """The text of each report."""
    return [path.read_text(errors="replace") for path in sorted(folder.glob("report*"))]
