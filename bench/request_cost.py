#!/usr/bin/python3
"""Instructions that a request costs in nginx, by callgrind: what experiments add, beside what split_clients adds, in
one run.

    bench/request_cost.py [PART...]            groups or scenarios whose name begins with PART; all without one
    bench/request_cost.py --annotate PART      the functions and lines of a scenario, and what each adds to its group's
                                               first
    bench/request_cost.py --markdown           the tables as docs/performance.md has them
    bench/request_cost.py --check              fails where a limit is exceeded
    bench/request_cost.py --record             Lua's and JavaScript's modules, where they are installed

The requests go over one kept connection to a worker that does not lead. The first scenario of a group is its baseline:
the same request without what the others add. `added` is over it, `ratio` is what is added over what that many
split_clients add. Not in it are timers and the insides of malloc and free, which stand beside (heap, mallocs). The
spread is that of three windows of 1,000 requests.
"""
import argparse
import collections
import os
import pathlib
import re
import sys
import tempfile
import time

import callgrind
import lib.edge
import scenarios
from callgrind import Connection, Measured
from lib.edge import Edge

WARM, REQUESTS, WINDOWS = 300, 1000, 3
CONF = """
    keepalive_requests 1000000;
    server { listen 127.0.0.1:{port};""" + callgrind.MARK + """
        location / { LOCATION } }"""


class Upstream:
    """A backend in a process of its own, which is not measured."""

    def __init__(self, folder):
        folder.mkdir(mode=0o755)
        self.edge = Edge(folder, scenarios.BACKEND, zone="", workers=1)
        self.address = f"127.0.0.1:{self.edge.port}"


def follower(edge, scenario, headers):
    """A connection to a worker that does not lead and answers as the scenario says, and its pid."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        connection = Connection(edge.port)
        _, pid = connection.ask("/pid")
        if pid != edge.leader() and re.fullmatch(scenario.expect, connection.ask(scenario.path, headers(0))[1]):
            return connection, pid
        connection.close()
        time.sleep(0.1)
    raise AssertionError(f"{scenario}: no worker answers as expected")


def check(scenario, head, body):
    assert re.fullmatch(scenario.expect, body), f"{scenario}: answered {body!r}"
    sets = len(re.findall(r"(?im)^set-cookie:", head))
    assert sets == scenario.sets, f"{scenario}: {sets} cookies set, expected {scenario.sets}"


def run(scenario):
    """Fills scenario.windows."""
    with tempfile.TemporaryDirectory(prefix="request-cost-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o777)
        upstream = Upstream(folder / "backend") if "{backend}" in scenario.before else None
        edge = Measured(folder, scenario.before + CONF.replace("LOCATION", scenario.location), scenario.definitions,
                        upstream, zone=scenario.zone, size=scenario.size, workers=2, start=False)
        conf = folder / "nginx.conf"
        text = conf.read_text() if scenario.loaded else re.sub(r"load_module .*;", "", conf.read_text())
        conf.write_text("".join(f"load_module {path};\n" for path in scenario.modules) + text)
        edge.start()
        try:
            measure(edge, scenario)
        finally:
            edge.end()
            if upstream:
                upstream.edge.end()


def measure(edge, scenario):
    if scenario.definitions:
        edge.wait(edge.leader, 60)
    headers = scenario.headers
    if scenario.first:
        edge.wait(lambda: "Cookie: " in (headers := scenario.sent(edge.port))(0) and "exp=" in headers(0), 60)
        headers = scenario.sent(edge.port)
    asked, marks = 0, collections.Counter()
    for _ in range(10):
        connection, pid = follower(edge, scenario, headers)
        for window in range(1 + WINDOWS):
            for _ in range(REQUESTS if window else WARM):
                asked += 1
                head, body = connection.ask(scenario.path, headers(asked))
            check(scenario, head, body)
            if scenario.cached and window == 0:
                assert connection.ask(scenario.path, headers(asked))[1] == body, f"{scenario}: not from the cache"
            connection.ask("/mark")
            marks[pid] += 1
        connection.close()
        led = edge.wait(lambda: (edge.folder / f"callgrind.{pid}.{marks[pid]}").exists()) and edge.leader() == pid
        scenario.windows = [edge.profile(pid, marks[pid] - WINDOWS + 1 + i, REQUESTS) for i in range(WINDOWS)]
        # Under callgrind a leader is slow, and another takes over: then its work is in the windows.
        if not led and scenario.spread < 0.03 * scenario.cost:
            return
    raise AssertionError(f"{scenario}: the measured workers took the lead")


def short(path):
    return path.replace("ngx_http_experiment_module.so", "module").replace(f"{lib.edge.ROOT}/", "")


def added_by(before, after):
    """[(key, added, own)], the largest change first; without the insides of malloc and free."""
    both = {key: (after.get(key, 0) - before.get(key, 0), after.get(key, 0)) for key in {**before, **after}}
    return sorted(((key, *counts) for key, counts in both.items() if not callgrind.HEAP.search(str(key[1]))),
                  key=lambda item: -abs(item[1]))


def annotate(baseline, scenario, out):
    for each in (baseline, scenario):
        if not each.windows:
            run(each)
    before, after = baseline.windows[-1], scenario.windows[-1]
    objects = {}
    for (object_, _), added, _ in added_by(before.own, after.own):
        objects[object_] = objects.get(object_, 0) + added
    by_object = ", ".join(f"{count:,.0f} in {short(object_)}" for object_, count in
                          sorted(objects.items(), key=lambda item: -item[1]) if abs(count) >= 1)
    out.title(f"{scenario}: {scenario.cost:,.0f} instructions, {scenario.cost - baseline.cost:,.0f} more than "
              f"{baseline.name}: {by_object}")
    out.functions(added_by(before.own, after.own))
    out.lines(added_by(before.lines, after.lines))


class Text:
    def head(self):
        print(f"{'scenario':56} {'instructions':>12} {'spread':>6} {'added':>7} {'ratio':>5} {'limit':>5} {'heap':>5} "
              f"{'mallocs':>7}", flush=True)

    def group(self, name):
        pass

    def title(self, text):
        print(f"{text}\n")

    def functions(self, items, most=45, title="function"):
        print(f"{'added':>8} {'own':>8}  {title}")
        for key, added, own in items[:most]:
            print(f"{added:8.0f} {own:8.0f}  {short(key[0])}: {str(key[1])[:110]}")
        print()

    def lines(self, items):
        self.functions(items, title="line")

    def row(self, scenario, added, ratio):
        last = scenario.windows[-1]
        print(f"{str(scenario):56} {scenario.cost:12.0f} {scenario.spread:6.0f} {added:7.0f} {ratio:>5} "
              f"{scenario.limit or '':>5} {last.heap:5.0f} {last.mallocs:7.2f}", flush=True)


class Markdown:
    def head(self):
        pass

    def group(self, name):
        print(f"\n**{name[0].upper()}{name[1:]}**\n\n| | instructions | spread | added | ratio | limit | mallocs |\n"
              "|---|--:|--:|--:|--:|--:|--:|", flush=True)

    def title(self, text):
        print(f"\n{text}\n\n| added | function |\n|--:|---|")

    def functions(self, items, most=25):
        for key, added, _ in items[:most]:
            name = re.sub(r"experiment::(ngx|shared|bandit)::(\(anonymous namespace\)::)?", "", str(key[1]))
            print(f"| {added:,.0f} | {short(key[0])}: `{name.partition('(')[0]}` |")

    def lines(self, items):
        pass

    def row(self, scenario, added, ratio):
        print(f"| {scenario.name} | {scenario.cost:,.0f} | {scenario.spread:.0f} | {added:,.0f} | {ratio} | "
              f"{scenario.limit or ''} | {scenario.windows[-1].mallocs:.2f} |", flush=True)


def table(wanted, out):
    """Returns: the scenarios that exceed their limit."""
    out.head()
    done, over = {}, []
    for scenario in wanted:
        run(scenario)
        if scenario.group not in done:
            out.group(scenario.group)
        group = done.setdefault(scenario.group, {})
        group[scenario.name] = scenario
        base = next(iter(group.values())).cost
        added, than = scenario.cost - base, group.get(scenario.than)
        ratio = added / (than.cost - base) if than else None
        if scenario.limit and ratio > scenario.limit:
            over.append(scenario)
        out.row(scenario, added, f"{ratio:.2f}" if than else "")
    return over


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*")
    parser.add_argument("--annotate", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--module", type=pathlib.Path, help="another build of the module")
    options = parser.parse_args()
    if options.module:
        lib.edge.MODULE = options.module.resolve()
    with tempfile.TemporaryDirectory(prefix="request-cost-") as folder:
        os.chmod(folder, 0o755)
        every = list(scenarios.for_the_record(pathlib.Path(folder)) if options.record else scenarios.scenarios())
        chosen = [s for s in every if not options.part or any(name.startswith(part) for part in options.part
                                                              for name in (str(s), s.name))]
        first = {s.group: s for s in reversed(every)}
        if options.annotate:
            for scenario in chosen:
                annotate(first[scenario.group], scenario, Markdown() if options.markdown else Text())
            return
        needed = {str(s) for s in chosen} | {str(first[s.group]) for s in chosen}
        needed |= {f"{s.group}: {s.than}" for s in chosen}
        over = table([s for s in every if str(s) in needed], Markdown() if options.markdown else Text())
    if over and options.check:
        sys.exit("\n".join(f"{scenario}: over its limit of {scenario.limit}" for scenario in over))


if __name__ == "__main__":
    os.umask(0o022)
    main()
