"""Reloads and killed workers under load: nothing fails, nothing is counted twice or lost, somebody always leads."""
import json
import os
import random
import re
import signal
import threading
import time

import pytest
from lib.client import get
from lib.edge import document, experiment

CONF = """
    server {
        listen 127.0.0.1:{port};
        location / {
            experiment all;
            return 200 "$variant_button|$experiment_epoch_button|$variant_dead|$experiment_reason_dead|$pid";
        }
        location = /metrics { experiment_metrics; }
    }
"""
DOCUMENT = document(experiment("button", unit="account"), experiment("dead", ("a", "b"), unit="account"))


class Load:
    """A few clients, each a new connection per request. Every unit comes once, and then again at random."""

    def __init__(self, edge, clients=3, tolerant=False):
        self.edge, self.tolerant = edge, tolerant
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.answers, self.wrong, self.failed, self.next = {}, [], [], 0
        self.threads = [threading.Thread(target=self.run, args=(seed,)) for seed in range(clients)]

    def run(self, seed):
        chance = random.Random(seed)
        while not self.stop.is_set():
            with self.lock:
                again = self.answers and chance.random() < 0.5
                unit = chance.choice(list(self.answers)) if again else f"unit-{self.next}"
                self.next += not again
            try:
                answer = get(self.edge.port, "/", {"X-Account": unit, "Connection": "close"})
            except OSError as error:
                self.failed.append(repr(error))
                if not self.tolerant:
                    raise
                continue
            except Exception as error:  # the worker was killed with the answer in its hands
                self.failed.append(repr(error))
                continue
            told = answer.text.split("|")
            with self.lock:
                known = self.answers.setdefault(unit, told[:2])
                if answer.status != 200 or told[2:4] != ["", "killed"] or known != told[:2]:
                    self.wrong.append((unit, answer.status, told))
            time.sleep(0.002)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def counted(edge, key="button"):
    told = json.loads(edge.ctl("status", key, "--json", check=True).stdout)["experiments"][0]
    return sum(variant["exposures"] for variant in told["variants"])


def started(edges, **more):
    edge = edges(CONF, DOCUMENT, **more)
    edge.kill_file.write_text("dead\n")
    edge.wait(lambda: get(edge.port, "/", {"X-Account": "0"}).text.split("|")[3] == "killed")
    edge.wait(lambda: len(edge.worker_pids()) == edge.workers)
    return edge


def test_twenty_reloads_under_load(edges):
    edge = started(edges, workers=2)
    epochs = [one["id"] for one in edge.runtime("button")["epochs"]]
    with Load(edge) as load:
        for _ in range(20):
            known = load.next
            edge.reload()
            edge.wait(lambda: load.next > known + 5)
    assert not load.failed and not load.wrong, (load.failed[:3], load.wrong[:3])
    assert {epoch for _, epoch in load.answers.values()} == {str(epochs[0])} and len(epochs) == 1
    family = 'nginx_experiment_exposures_total{experiment="button"'
    exposed = sum(value for name, value in edge.metrics().items() if name.startswith(family))
    assert [one["id"] for one in edge.runtime("button")["epochs"]] == epochs
    edge.stop()
    # Each unit once, the one of started() included; the filter takes few for known ones.
    assert exposed == counted(edge) and len(load.answers) - 2 <= exposed <= len(load.answers) + 1
    assert edge.runtime("dead")["kills"] and not edge.lines(r"\[(error|crit)\]")


def leader(edge):
    """Who does the leader's work: it alone writes notices about definitions."""
    lines = edge.lines(r"\[notice\] .*experiment: definitions \d+ in use")
    return int(re.search(r"(\d+)#", lines[-1]).group(1)) if lines else None


def test_killed_workers_take_nothing_with_them(edges):
    edge = started(edges, workers=3, allowed="exited on signal 9")
    name = 'nginx_experiment_exposures_total{experiment="button",variant="green"}'
    seen = edge.metrics()[name] if name in edge.metrics() else 0
    chance = random.Random(7)
    with Load(edge, tolerant=True) as load:
        for _ in range(20):
            victim = chance.choice(edge.wait(lambda: len(pids := edge.worker_pids()) == 3 and pids))
            os.kill(victim, signal.SIGKILL)
            edge.wait(lambda: victim not in edge.children())
            known = load.next
            edge.wait(lambda: load.next > known + 5)
            now = edge.metrics()[name]
            assert now >= seen  # in the zone, not in the worker
            seen = now
        edge.wait(lambda: len(edge.worker_pids()) == 3)
    assert not load.wrong, load.wrong[:3]
    assert len(load.failed) <= 60 and len(load.answers) > 200, (len(load.failed), len(load.answers))
    # Somebody leads: a kill still arrives.
    edge.kill_file.write_text("dead\nbutton\n")
    edge.wait(lambda: get(edge.port, "/", {"X-Account": "0"}).text.split("|")[0] == "", seconds=3)


def test_when_the_leader_is_killed_another_one_leads(edges):
    edge = started(edges, workers=3, allowed="exited on signal 9")
    for n in range(3):
        victim = leader(edge)
        assert victim in edge.worker_pids()
        os.kill(victim, signal.SIGKILL)
        began = time.monotonic()
        edge.define(document(experiment("button", unit="account", variants=("control", "green", f"v{n}")),
                             experiment("dead", ("a", "b"), unit="account")))
        edge.wait(lambda: leader(edge) not in (None, victim), seconds=3)
        edge.wait_log(rf"definitions {n + 2} in use", seconds=3)
        assert time.monotonic() - began < 3
        edge.wait(lambda: len(edge.worker_pids()) == 3)
    assert len(edge.lines("exited on signal 9")) == 3
    assert not edge.lines(r"\[(error|crit)\]")


def test_a_worker_killed_in_the_middle_of_the_leaders_work_blocks_nobody(edges):
    """Documents change all the time while the leader is killed: the zone's mutex never stays held."""
    edge = started(edges, workers=2, allowed="exited on signal 9")
    for n in range(10):
        edge.define(document(experiment("button", unit="account", variants=("control", f"v{n}")),
                             experiment("dead", ("a", "b"), unit="account"),
                             *[experiment(f"more-{i}", unit="account", desired="running" if (i + n) % 2 else "stopped",
                                          render="edge") for i in range(30)]))
        time.sleep(0.05 * (n % 6))  # wherever it is
        victim = leader(edge)
        if victim in edge.worker_pids():
            os.kill(victim, signal.SIGKILL)
        edge.wait(lambda: victim not in edge.children())
        edge.wait(lambda: len(edge.worker_pids()) == 2)
    edge.define(DOCUMENT)
    edge.wait(lambda: edge.metrics()["nginx_experiment_experiments"] == 2)
    edge.wait(lambda: get(edge.port, "/", {"X-Account": "7"}).text.split("|")[0] in ("control", "green"))
    assert get(edge.port, "/", {"X-Account": "7"}).text.split("|")[3] == "killed"
    edge.reload()
    assert get(edge.port, "/", {"X-Account": "7"}).text.split("|")[3] == "killed"


@pytest.mark.parametrize("way", [signal.SIGQUIT, signal.SIGTERM])
def test_what_was_counted_a_moment_ago_is_stored_at_the_end(edges, way):
    edge = edges(CONF, DOCUMENT, workers=2)
    for unit in range(25):
        get(edge.port, "/", {"X-Account": str(unit)})
    edge.stop(way)
    assert counted(edge) == counted(edge, "dead") == 25
