#!/usr/bin/python3
"""Requests per second and latency by wrk, as ratios to plain nginx in alternating short runs.

    bench/throughput.py [--rounds N] [--seconds S] [--markdown]

Each round asks every scenario once, in turn, and sets it beside the plain run of the same round, so that what else
happens on the machine meets both. Shown are the median of the rounds' ratios and its quartiles. One worker serves, wrk
has one thread and 16 connections; both are on this machine, so a request's cost is the client's, too.
"""
import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "t"))
from lib.client import get  # noqa: E402
from lib.edge import Edge, document, experiment  # noqa: E402

ZONE = """
    experiment_zone zone=experiments:8m state={folder}/state;
    experiment_unit account header=X-Account;
    experiment_types *;
    experiment_cohort_max 100000;
"""
CONF = """
    keepalive_requests 100000000;
    SPLIT
    server { listen 127.0.0.1:{port};
        location = /plain { return 200 "ok"; }
        location = /split_clients-1 { return 200 "$v0"; }
        location = /split_clients-10 { return 200 "V10"; }
        location = /experiments-1 { experiment e0; return 200 "$variant_e0"; }
        location = /experiments-10 { experiment all; return 200 "E10"; }
    }"""
# The account changes with each request: new visitors at first, then ones that come again.
SCRIPT = """
local n, asked = 0, {}
init = function()
    for i = 1, 20000 do asked[i] = wrk.format("GET", nil, {["X-Account"] = string.format("visitor-%07d", i)}) end
end
request = function()
    n = n % 20000 + 1
    return asked[n]
end
done = function(summary, latency)
    io.write(string.format("result %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50),
        latency:percentile(99), summary.errors.status + summary.errors.read + summary.errors.timeout))
end
"""
SCENARIOS = ("plain", "split_clients-1", "experiments-1", "split_clients-10", "experiments-10")


def values(prefix):
    return "".join(f"${prefix}{i}" for i in range(10))


def conf():
    split = "\n".join(f'split_clients "$http_x_account" $v{i} {{ 50% a; * b; }}' for i in range(10))
    return CONF.replace("SPLIT", split).replace("V10", values("v")).replace("E10", values("variant_e"))


def run(edge, script, name, seconds):
    """Returns: requests per second, p50 and p99 in microseconds."""
    out = subprocess.run(["wrk", "-t1", "-c16", f"-d{seconds}s", "-s", str(script),
                          f"http://127.0.0.1:{edge.port}/{name}"], capture_output=True, text=True, check=True).stdout
    requests, us, p50, p99, errors = (int(word) for word in re.search(r"^result (.*)$", out, re.M).group(1).split())
    assert errors == 0, out
    return requests * 1e6 / us, p50, p99


def quartiles(values):
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    seen = {name: [] for name in SCENARIOS}
    with tempfile.TemporaryDirectory(prefix="throughput-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        script = folder / "account.lua"
        script.write_text(SCRIPT)
        experiments = document(*(experiment(f"e{i}", ("a", "b"), unit="account") for i in range(10)))
        edge = Edge(folder, conf(), experiments, zone=ZONE, workers=1)
        try:
            edge.wait(lambda: re.fullmatch("[ab]{10}", get(edge.port, "/experiments-10", {"X-Account": "1"}).text))
            for _ in range(options.rounds):
                for name in SCENARIOS:
                    seen[name].append(run(edge, script, name, options.seconds))
        finally:
            edge.end()
    row = "| {} | {} | {} | {} | {} |" if options.markdown else "{:18} {:>10} {:>24} {:>24} {:>24}"
    print(row.format("", "requests/s", "throughput to plain", "p50 to plain", "p99 to plain"))
    if options.markdown:
        print("|---|--:|--:|--:|--:|")
    for name in SCENARIOS:
        ratios = [quartiles([own[i] / plain[i] for own, plain in zip(seen[name], seen["plain"])]) for i in range(3)]
        print(row.format(name.replace("-", " "), f"{statistics.median(own[0] for own in seen[name]):.0f}", *ratios))
    ours, theirs = seen["experiments-10"], seen["split_clients-10"]
    print(f"\nten experiments to ten split_clients: throughput "
          f"{quartiles([own[0] / other[0] for own, other in zip(ours, theirs)])}")


if __name__ == "__main__":
    os.umask(0o022)
    main()
