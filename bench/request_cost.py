#!/usr/bin/python3
"""Instructions that a request costs in nginx, by callgrind: what experiments add, beside what split_clients adds, in one run.

    bench/request_cost.py [PART...]            groups or scenarios whose name begins with PART; all without one
    bench/request_cost.py --annotate PART      the functions of a scenario, and what each adds over the group's first
    bench/request_cost.py --markdown           the table as docs/performance.md has it

nginx runs under callgrind; the requests go over one kept connection to a worker that does not lead. A request to /mark makes callgrind write
down what it counted and begin anew, so each figure is of exactly the requests between two marks. Timers are not counted, nor is what happens
inside malloc and free, which stands beside (heap, mallocs). The spread is that of three windows. The first scenario of a group is its baseline: the same request without what the others add.
"""
import argparse
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "t"))
import lib.edge  # noqa: E402
from lib.edge import Edge, document, experiment  # noqa: E402

WARM, REQUESTS, WINDOWS = 300, 1000, 3
# What malloc and free cost depends on what was freed long before; it is shown apart, with the number of calls.
HEAP = re.compile(r"malloc|^free$|_int_free|calloc|realloc|memalign|unlink_chunk|systrim")
ALLOCATES = re.compile(r"malloc|calloc|realloc|posix_memalign|memalign|aligned_alloc")
ZONE = """
    experiment_zone zone=experiments:{size} state={folder}/state;
    experiment_unit visitor cookie=__Host-uid mint;
    experiment_unit account header=X-Account;
    experiment_types *;
    experiment_cohort_max 1024;
"""
TEN = range(10)


@dataclass
class Scenario:
    group: str
    name: str
    location: str  # text of `location /`
    before: str = ""  # text before the server
    zone: str = ""
    definitions: dict = None
    headers: Callable = None  # number of the request -> its header lines
    expect: str = ""  # pattern of every answer's body
    than: str = ""  # the scenario of the group that the ratio is to
    loaded: bool = True
    windows: list = field(default_factory=list)  # Profiles

    def __str__(self):
        return f"{self.group}: {self.name}"

    @property
    def cost(self):
        return sorted(window.cost for window in self.windows)[WINDOWS // 2]

    @property
    def spread(self):
        return max(window.cost for window in self.windows) - min(window.cost for window in self.windows)


def new(i):
    return f"X-Account: visitor-{i:07d}\r\n"


def again(i):
    return f"X-Account: visitor-{i % 16:07d}\r\n"


def split(count, key="$http_x_account"):
    return "".join(f'split_clients "{key}" $v{i} {{ 50% a; * b; }}\n' for i in range(count))


def values(prefix, count):
    return "".join(f"${prefix}{i}" for i in range(count))


def fixed(count, **fields):
    return document(*(experiment(f"e{i}", ("a", "b"), unit="account", **fields) for i in range(count)))


def scenarios():
    group = "return"
    say = lambda prefix, count: f'return 200 "{values(prefix, count)}";'
    yield Scenario(group, "plain", 'return 200 "ok";', headers=again)
    for count in (1, 10):
        yield Scenario(group, f"split_clients {count}", say("v", count), split(count), headers=again,
                       expect="[ab]" * count)
    for count in (1, 10):
        ours = dict(location="experiment all; " + say("variant_e", count), zone=ZONE, definitions=fixed(count),
                    expect="[ab]" * count, than=f"split_clients {count}")
        yield Scenario(group, f"experiments {count}, new visitor", headers=new, **ours)
        yield Scenario(group, f"experiments {count}, returning visitor", headers=again, **ours)


class Measured(Edge):
    """An edge whose nginx runs under callgrind."""

    def command(self, *args):
        return subprocess.run(["valgrind", "--tool=callgrind", "--trace-children=yes", "-q",
                               f"--callgrind-out-file={self.folder}/callgrind.%p",
                               "--toggle-collect=ngx_event_expire_timers", "--collect-atstart=yes",
                               "--dump-before=ngx_http_named_location",
                               lib.edge.NGINX, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"),
                               "-e", str(self.log), *args],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              timeout=120)


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, path, headers=""):
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.receive()
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        while length and len(body) < int(length.group(1)):
            body += self.receive()
        return head.decode(), body.decode()

    def receive(self):
        data = self.socket.recv(65536)
        assert data, "nginx closed the connection"
        return data


CONF = """
    keepalive_requests 1000000;
    server { listen 127.0.0.1:{port};
        location = /pid { return 200 "$pid"; }
        location = /mark { try_files "" @mark; }
        location @mark { return 204; }
        location / { LOCATION } }"""


def leader(edge):
    lines = edge.lines(r"definitions \d+ in use")
    return re.search(r"\[notice\] (\d+)#", lines[-1]).group(1) if lines else ""


def follower(edge, scenario):
    """A connection to a worker that does not lead and answers as the scenario says."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        connection = Connection(edge.port)
        head, pid = connection.ask("/pid")
        if pid != leader(edge) and re.fullmatch(scenario.expect or ".*", connection.ask("/", scenario.headers(0))[1]):
            return connection, pid
        connection.socket.close()
        time.sleep(0.1)
    raise AssertionError(f"{scenario}: no worker answers as expected")


def run(scenario):
    with tempfile.TemporaryDirectory(prefix="request-cost-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o777)
        edge = Measured(folder, scenario.before + CONF.replace("LOCATION", scenario.location), scenario.definitions,
                        zone=scenario.zone, workers=2, start=False)
        edge.start()
        connection, pid = follower(edge, scenario)
        asked = 0
        for count in [WARM] + [REQUESTS] * WINDOWS:
            for _ in range(count):
                asked += 1
                body = connection.ask("/", scenario.headers(asked))[1]
            assert re.fullmatch(scenario.expect or ".*", body), f"{scenario}: answered {body!r}"
            connection.ask("/mark")
        assert leader(edge) != pid, f"{scenario}: the measured worker took the lead"
        connection.socket.close()
        edge.end()
        scenario.windows = [Profile((folder / f"callgrind.{pid}.{part}").read_text(errors="replace"))
                            for part in range(2, 2 + WINDOWS)]


class Profile:
    """One window's: own instructions and calls per request, by (object, function)."""

    def __init__(self, text):
        self.own, self.calls = {}, {}
        names, here, object_, callee = {}, None, None, None

        def name(kind, text):
            number, _, said = text.partition(" ")
            if said:
                names[kind, number] = said
            return names.get((kind, number), text)

        for line in text.splitlines():
            key, found, value = line.partition("=")
            if found and key == "ob":
                object_ = pathlib.Path(name("ob", value)).name
            elif found and key == "fn":
                here = (object_, name("fn", value))
            elif found and key == "cob":
                name("ob", value)
            elif found and key == "cfn":
                callee = name("fn", value)
            elif found and key == "calls":  # the next line's cost is the callee's
                self.calls[callee] = self.calls.get(callee, 0) + int(value.split()[0]) / REQUESTS
                callee = None
                skip = True
                continue
            elif here and line[:1].isdigit() or line[:1] in ("+", "-", "*"):
                if not skip:
                    self.own[here] = self.own.get(here, 0) + int(line.split()[1]) / REQUESTS
            skip = False
        self.heap = sum(count for (object_, name), count in self.own.items() if HEAP.search(name))
        self.cost = sum(self.own.values()) - self.heap
        self.mallocs = sum(count for name, count in self.calls.items() if ALLOCATES.fullmatch(name))


def annotate(baseline, scenario, lines=45):
    run(baseline)
    run(scenario)
    before, after = baseline.windows[-1].own, scenario.windows[-1].own
    print(f"{scenario}: {scenario.cost:.0f} instructions, {scenario.cost - baseline.cost:.0f} more than {baseline.name}\n")
    added = {key: after.get(key, 0) - before.get(key, 0) for key in {**before, **after}}
    objects = {}
    for (object_, _), count in added.items():
        objects[object_] = objects.get(object_, 0) + count
    print(f"{'added':>8}  object")
    for object_, count in sorted(objects.items(), key=lambda item: -item[1]):
        if abs(count) >= 1:
            print(f"{count:8.0f}  {object_}")
    print(f"\n{'added':>8} {'own':>8}  function")
    for key in sorted(added, key=lambda key: -abs(added[key]))[:lines]:
        print(f"{added[key]:8.0f} {after.get(key, 0):8.0f}  {key[0].replace('ngx_http_experiment_module.so', 'module')}: "
              f"{key[1][:110]}")


def table(wanted):
    print(f"{'scenario':50} {'instructions':>12} {'spread':>6} {'added':>7} {'ratio':>5} {'heap':>5} {'mallocs':>7}", flush=True)
    done = {}
    for scenario in wanted:
        run(scenario)
        group = done.setdefault(scenario.group, {})
        group[scenario.name] = scenario
        base = next(iter(group.values())).cost
        added, than = scenario.cost - base, group.get(scenario.than)
        ratio = f"{added / (than.cost - base):.2f}" if than else ""
        last = scenario.windows[-1]
        print(f"{str(scenario):50} {scenario.cost:12.0f} {scenario.spread:6.0f} {added:7.0f} {ratio:>5} {last.heap:5.0f} "
              f"{last.mallocs:7.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*")
    parser.add_argument("--annotate", action="store_true")
    parser.add_argument("--module", type=pathlib.Path, help="another build of the module")
    options = parser.parse_args()
    if options.module:
        lib.edge.MODULE = options.module.resolve()
    every = list(scenarios())
    chosen = [s for s in every if not options.part or any(str(s).startswith(part) or s.name.startswith(part)
                                                          for part in options.part)]
    first = {s.group: s for s in reversed(every)}
    if options.annotate:
        for scenario in chosen:
            annotate(first[scenario.group], scenario)
        return
    groups = {s.group for s in chosen}
    needed = {id(s) for s in chosen} | {id(first[g]) for g in groups}
    needed |= {id(s) for s in every for c in chosen if s.group == c.group and s.name == c.than}
    table([s for s in every if id(s) in needed])


if __name__ == "__main__":
    os.umask(0o022)
    main()
