"""A thousand experiments: what they take, how they are swapped, and that visitors leave nothing behind."""
import json
import os
import pathlib
import re
import subprocess
import threading
import time

import pytest
import xxhash
from lib import sanitizer
from lib.client import get
from lib.edge import MODULE, ZONE, document, experiment
from lib.load import Load, request

COUNT = 1000
GOALS = [{"key": "purchase", "kind": "conversion"}, {"key": "signup", "kind": "conversion"},
         {"key": "revenue", "kind": "value", "max": 500}]
THOMPSON = {"policy": "thompson", "goal": "purchase"}
CONF = """
    server {
        listen 127.0.0.1:{port};
        keepalive_requests 10000000;
        location / { experiment shown e-1 e-2; return 200 "$pid $variant_shown"; }
        location = /metrics { experiment_metrics; }
    }
"""


def thousand(number, prefix="e", adaptive=50):
    """A megabyte: 4 arms and 3 goals each. Which document it is shows in the variants of "shown"."""
    filler = f"{number:04}" * 40
    variants = [{"key": key, "payload": {"text": filler}} for key in ("control", "b", "c", "d")]
    return json.dumps(document(
        experiment("shown", [f"n{number}-a", f"n{number}-b"], unit="account"),
        *(experiment(f"{prefix}-{n}", variants, goals=GOALS, allocation=THOMPSON if n <= adaptive else None)
          for n in range(1, COUNT + 1))))


class Visitors:
    """A keepalive connection that asks and asks, and keeps what is shown by whom."""

    def __init__(self, port, unit):
        self.load = Load(port, 1)
        self.answers, self.bad, self.pid, self.shown = 0, [], None, None
        self.asked = request("/", headers={"X-Account": unit})
        self.going = True
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.going:
            answer = self.load.exchange([self.asked])[0]
            self.answers += 1
            if answer.status != 200:
                self.bad.append(answer)
            self.pid, _, self.shown = answer.text.partition(" ")
            time.sleep(0.001)

    def end(self):
        self.going = False
        self.thread.join(timeout=20)
        assert not self.thread.is_alive() and not self.bad


def visit_every_worker(edge):
    """One connection to each worker, at least."""
    visitors = []
    while len({v.pid for v in visitors}) < edge.workers:
        visitors.append(Visitors(edge.port, f"unit-{len(visitors)}"))
        edge.wait(lambda: visitors[-1].pid)
        assert len(visitors) < 200, "all connections went to one worker"
    first = {v.pid: v for v in visitors}
    for visitor in visitors:
        if visitor is not first[visitor.pid]:
            visitor.end()
    return list(first.values())


def swap(edge, visitors, number, definitions):
    edge.define(definitions)
    edge.wait(lambda: all(v.shown.startswith(f"n{number}-") for v in visitors))


def used(edge):
    return edge.metrics()["nginx_experiment_zone_used_bytes"]


def settled(edge):
    """What the zone has in use when it was the same for a second."""
    taken, since = used(edge), time.monotonic()

    def same():
        nonlocal taken, since
        if (now := used(edge)) != taken:
            taken, since = now, time.monotonic()
        return time.monotonic() - since > 1

    edge.wait(same)
    return taken


@pytest.fixture
def timed(edges, tmp_path):
    """An edge, and how to ask it for the longest turn of any worker's event loop, in milliseconds of CPU."""
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", tmp_path / "turns.so",
                    pathlib.Path(__file__).with_name("turns.c")], check=True)

    def make(*args, **kwargs):
        edge = edges(*args, start=False, **kwargs)
        folder = edge.folder / "turns"
        folder.mkdir()
        edge.give(folder)
        environment = edge.environment or dict(os.environ)
        preloaded = [part for part in environment.get("LD_PRELOAD", "").split(":") if part]
        edge.environment = {**environment, "LD_PRELOAD": ":".join([*preloaded, str(tmp_path / "turns.so")]),
                            "TURNS_FOLDER": str(folder)}
        edge.start()
        return edge, lambda: max(int((folder / str(pid)).read_text()) for pid in edge.worker_pids()) / 1e6
    return make


def test_a_megabyte_of_definitions_is_swapped_under_load(timed, record_property):
    edge, longest_turn_ms = timed(CONF, thousand(0), size="32m")
    assert len(thousand(1)) > 1_000_000
    visitors = visit_every_worker(edge)
    for number in range(1, 21):
        swap(edge, visitors, number, thousand(number))
    for visitor in visitors:
        visitor.end()
    assert min(v.answers for v in visitors) > 100
    record_property("longest_turn_ms", longest_turn_ms())
    if not sanitizer.runtimes(MODULE):
        assert longest_turn_ms() < 10, "2 ms on a quiet machine; bench/scale has the parts"
    assert edge.metrics()["nginx_experiment_zone_full"] == 0


def with_history(edge, keys, epochs=65):
    """Gives experiments of a stopped edge epochs that ended and take rewards, with quotas of their own."""
    path = edge.state / "runtime.json"
    state = json.loads(path.read_text())["state"]
    for key in keys:
        known = state["experiments"][key]["epochs"]
        current = known.pop()
        for n in range(epochs):
            quotas = [2500 + n, 2500 - n, 2500, 2500]
            known.append({**current, "id": (current["id"] & 0xfffff) + (n + 1 << 20), "quotas": quotas,
                          "ended_ms": current["started_ms"]})
        known.append({**current, "id": (current["id"] & 0xfffff) + (epochs + 1 << 20)})
    text = json.dumps(state, separators=(",", ":"), sort_keys=True)
    path.write_text(f'{{"format":1,"checksum":"{xxhash.xxh3_64_hexdigest(text)}","state":{text}}}\n')


def test_a_thousand_experiments_fit_16_mib_beside_the_filter(edges):
    zone = ZONE.replace("size}", "size} filter=4m")
    edge = edges(CONF, thousand(0), size="20m", zone=zone)
    edge.wait(lambda: get(edge.port, "/", {"X-Account": "one"}).text.endswith(("n0-a", "n0-b")))
    edge.stop()
    with_history(edge, [f"e-{n}" for n in range(1, 51)])
    edge.start()
    epochs = len(edge.runtime("e-50")["epochs"])
    assert epochs == 66 and len(edge.runtime("e-51")["epochs"]) == 1
    visitors = visit_every_worker(edge)
    swap(edge, visitors, 1, thousand(1))
    for visitor in visitors:
        visitor.end()
    metrics = edge.metrics()
    assert metrics["nginx_experiment_zone_full"] == 0
    assert metrics["nginx_experiment_zone_used_bytes"] > 50 * 66 * 200, "their epochs are there"
    assert not edge.lines("zone is full|no room")


def test_others_take_the_place_of_a_thousand_and_its_space(edges, soak):
    edge = edges(CONF, thousand(0, "a", adaptive=0), size="32m")
    visitors = visit_every_worker(edge)
    taken = []
    for number in range(1, (21 if soak else 3)):
        swap(edge, visitors, number, thousand(number, "ab"[number % 2], adaptive=0))
        before = used(edge)
        # Freed when no plan knows them, and the totals were stored since.
        edge.wait(lambda: used(edge) < before - 4_000_000)
        taken.append(settled(edge))
    for visitor in visitors:
        visitor.end()
    assert max(taken) - min(taken) < 100_000, taken
    assert edge.metrics()["nginx_experiment_zone_full"] == 0


def anonymous_kb(pid):
    """Memory of the process itself: the zone's pages, of fixed size, are touched one by one."""
    return int(re.search(r"RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1))


@pytest.mark.parametrize("unit, kind", [("visitor", "go"), ("account", "bare")])
def test_nothing_grows_with_visitors(edges, unit, kind):
    if sanitizer.runtimes(MODULE):
        pytest.skip("a sanitizer keeps what was freed")
    edge = edges(CONF, document(*(experiment(key, unit=unit) for key in ("shown", "e-1", "e-2"))), size="8m")
    edge.wait(lambda: edge.metrics().get("nginx_experiment_zone_used_bytes", 0) > 10_000)

    def visit(first, count):
        for begin in range(first, first + count, 5000):
            named = [{"X-Account": f"unit-{n}"} for n in range(begin, begin + 5000)]
            asked = [request("/", headers=h if unit == "account" else None, kind=kind) for h in named]
            with Load(edge.port) as load:  # pipelined requests leave nginx memory until it ends
                assert {answer.status for answer in load.exchange(asked, depth=32)} == {200}

    visit(0, 20_000)
    zone, workers = used(edge), {pid: anonymous_kb(pid) for pid in edge.worker_pids()}
    visit(20_000, 50_000)
    assert used(edge) == zone
    grown = {pid: anonymous_kb(pid) - before for pid, before in workers.items()}
    # Each of the thread pool's threads takes some when it first has a step of the leader to do.
    assert max(grown.values()) < 50_000 * 8 / 1024, f"kB: {grown}"
    exposed = sum(v for k, v in edge.metrics().items() if k.startswith("nginx_experiment_exposures_total{"))
    assert exposed > 50_000, "they were visitors"
