#!/usr/bin/python3
"""Runs all of bench/ and puts what it prints into docs/performance.md, between the marks there. 15 minutes.

    bench/page.py [SECTION...]     all sections without one: cost breakdown record instructions steps throughput
"""
import pathlib
import re
import subprocess
import sys

from callgrind import ROOT

PAGE = ROOT / "docs" / "performance.md"
BENCH = pathlib.Path(__file__).resolve().parent
WHERE = ("return: experiments 1, returning", "return: experiments 10, returning")
SECTIONS = {
    "cost": [[BENCH / "request_cost.py", "--markdown"]],
    "breakdown": [[BENCH / "request_cost.py", "--annotate", "--markdown", *WHERE]],
    "record": [[BENCH / "request_cost.py", "--record", "--markdown"]],
    "instructions": [[BENCH / "instructions.py"]],
    "steps": [[ROOT / "build" / "steps", "--benchmark_min_time=0.2"]],
    "throughput": [[BENCH / "throughput.py", "--markdown"]],
}


def tabled(text):
    """Columns that stand apart by two spaces as a table; a table stays as it is."""
    if "|" in text:
        return text.strip()
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.strip().splitlines()]
    width = len(rows[0])
    rows = [row + [""] * (width - len(row)) for row in rows if len(row) > 1]
    rows.insert(1, ["---"] + ["--:"] * (width - 1))
    return "\n".join(f"| {' | '.join(row)} |" if row[0] != "---" else f"|{'|'.join(row)}|" for row in rows)


def main():
    for name in sys.argv[1:] or SECTIONS:
        out = "\n".join(subprocess.run(command, check=True, capture_output=True, text=True).stdout
                        for command in SECTIONS[name])
        made, count = re.subn(f"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m: m[1] + tabled(out) + "\n" + m[2],
                              PAGE.read_text(), flags=re.S)
        assert count == 1, f"{PAGE} has no mark of {name}"
        PAGE.write_text(made)


if __name__ == "__main__":
    main()
