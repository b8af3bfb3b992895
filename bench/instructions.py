#!/usr/bin/python3
"""Instructions and heap allocations of the steps of build/steps, by callgrind.

    bench/instructions.py [NAME...]        steps whose name begins with NAME; the cookie's without one
    bench/instructions.py --check          fails where a limit is exceeded

Each step runs many times in one process and few times in another; the difference is its cost.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

from callgrind import ROOT, Profile

STEPS = ROOT / "build" / "steps"
FEW, MANY = 10, 210
COOKIE = ("OpenSSL's", "verify", "sign")
LIMITS = {"verify a cookie of 5": 13000, "verify and sign a cookie of 5": 26000}


def profile(name, count):
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder:
        out = pathlib.Path(folder) / "out"
        subprocess.run(["valgrind", "--tool=callgrind", "-q", "--compress-pos=no", f"--callgrind-out-file={out}",
                        STEPS, "--once", name, str(count)], check=True)
        return Profile(out.read_text(errors="replace"), 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    listed = subprocess.run([STEPS, "--list"], capture_output=True, text=True, check=True).stdout.splitlines()
    over = []
    print(f"{'step':46} {'instructions':>12} {'mallocs':>8} {'limit':>7}")
    for name in listed:
        if not name.startswith(tuple(options.name or COOKIE)):
            continue
        few, many = profile(name, FEW), profile(name, MANY)
        cost = (many.cost + many.heap - few.cost - few.heap) / (MANY - FEW)
        mallocs = (many.mallocs - few.mallocs) / (MANY - FEW)
        limit = LIMITS.get(name)
        if limit and (cost > limit or mallocs):
            over.append(name)
        print(f"{name:46} {cost:12.0f} {mallocs:8.2f} {limit or '':>7}", flush=True)
    if over and options.check:
        sys.exit("\n".join(f"{name}: over {LIMITS[name]} instructions, or allocates" for name in over))


if __name__ == "__main__":
    main()
