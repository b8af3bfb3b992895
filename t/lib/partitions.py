"""Edges that reach their store by a way of their own each, what befalls ways and store, and what edges show meanwhile.

`Partitions` does things to them, each of which returns when it has healed. `Witness` looks at all edges and servers
all the time.
"""
import collections
import contextlib
import json
import random
import re
import shutil
import threading
import time

import redis

from lib.crowd import SERVER
from lib.edge import document, experiment
from lib.fault_proxy import CutReplies, FaultProxy, whole
from lib.fleet import SPACE, Fleet, ctl
from lib.load import Connection, request
from lib.redis_server import RedisServer

LAMPS = 32  # experiments that are there to be killed
SLOTS = 10000
PATIENCE_S = 40
ADAPTIVE = experiment("visit", goals=[{"key": "purchase", "kind": "conversion", "window": "2m"}],  # epochs grow to 4 s
                      allocation={"policy": "thompson", "goal": "purchase", "min_epoch": "1s", "baseline": 0,
                                  "floor": 0.2, "warm_up": {"exposures": 10, "successes": 0, "for": "0s"}})
BUTTON = experiment("button", unit="account")
VARIANTS = [variant["key"] for variant in ADAPTIVE["variants"]]


def lamp(n):
    return f"lamp{n}"


def definitions(number):
    """The document's text is another one for each number."""
    lamps = [experiment(lamp(n), ("on",), unit="account", goals=[]) for n in range(LAMPS)]
    return document(ADAPTIVE, BUTTON, *lamps, experiment("number", ({"key": "on", "payload": {"n": number}},),
                                                         unit="account", goals=[]))


# A page of plain text shows nobody anything, so looking is not counted.
LOOK = """
        location = /look {
            default_type text/plain; experiment all;
            return 200 "$pid|$experiment_epoch_visit|$variant_visit|$experiment_propensity_visit|%s";
        }
""" % "|".join(f"$experiment_reason_{lamp(n)}" for n in range(LAMPS))
# Lamps are not counted either: a filter with a million marks takes some newcomers for others.
CONF = SERVER.replace("experiment all;", "experiment visit button;").replace(
    "location = /metrics", LOOK.strip() + "\n        location = /metrics")


def epochs_of(text):
    """{epoch id: slots of each arm} of an experiment's runtime state."""
    state = text if isinstance(text, dict) else json.loads(text)
    return {(state["generation"], epoch["id"]): tuple(epoch["quotas"]) for epoch in state["epochs"]}


class Seen:
    """Of one worker of an edge, in the order in which it was seen: each takes a document up by itself."""

    def __init__(self):
        self.versions, self.epochs, self.shares = [], [], set()
        self.lamps = collections.defaultdict(list)  # whether it is killed, each change of it


class Witness:
    """Asks every edge and reads every server and state directory, some ten times a second."""

    def __init__(self, partitions):
        self.partitions, self.stopping = partitions, threading.Event()
        self.tables = collections.defaultdict(lambda: collections.defaultdict(set))  # epoch -> table -> where it was
        self.seen = collections.defaultdict(Seen)  # by number of the edge and pid
        self.lock, self.faults = threading.Lock(), []
        watches = [(self.watch_edge, n) for n in range(len(partitions.ways))] + [(self.watch_stores, None)]
        self.threads = [threading.Thread(target=self.run, args=watch) for watch in watches]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def run(self, watch, argument):
        try:
            while not self.stopping.wait(0.05):
                watch(argument)
        except Exception as fault:  # of a thread nobody would hear
            self.faults.append(repr(fault))

    def note_tables(self, key, text, where):
        with self.lock:
            for epoch, quotas in epochs_of(text).items():
                self.tables[key, *epoch][quotas].add(where)

    def watch_edge(self, number):
        note = lambda values, value: values[-1:] != [value] and values.append(value)
        look = self.partitions.look(number)
        with self.lock:
            seen = self.seen[number, look.pid]
        note(seen.epochs, look.epoch)
        seen.shares.add((look.epoch, look.variant, look.share))
        for n in range(LAMPS):
            note(seen.lamps[n], lamp(n) in look.killed)
        note(seen.versions, look.version)
        state = json.loads((self.partitions.fleet[number].state / "runtime.json").read_text())["state"]["experiments"]
        for key, text in state.items():
            self.note_tables(key, text, f"edge {number}")

    def watch_stores(self, _):
        for server in list(self.partitions.servers):
            with contextlib.suppress(redis.RedisError), server.client(port=True) as client:
                for field, text in client.hgetall(f"{SPACE}:ctl").items():
                    if field.startswith(b"x:"):
                        self.note_tables(field[2:].decode(), text, f"store {server.port}")

    def assert_consistent(self, resumed):
        """That no epoch had two tables anywhere, and that nothing went back on any edge."""
        assert not self.faults, self.faults
        two = {epoch: dict(tables) for epoch, tables in self.tables.items() if len(tables) > 1}
        assert not two, two
        share = {(epoch, variant): f"{slots / SLOTS:.4f}" for (key, _, epoch), tables in self.tables.items()
                 if key == "visit" for quotas in tables for variant, slots in zip(VARIANTS, quotas)}
        for worker, seen in self.seen.items():
            wrong = [shown for shown in seen.shares if share.get(shown[:2]) != shown[2]]
            assert not wrong, (worker, wrong, share)
            for what in (seen.versions, seen.epochs):
                assert what == sorted(what), (worker, what)
            for n, changes in seen.lamps.items():
                # One may have been seen for the first time when it was killed already.
                allowed = [False, True, False] if lamp(n) in resumed else [False, True]
                told = worker, lamp(n), changes
                assert changes in (allowed[:len(changes)], allowed[1:][:len(changes)]), told

    @property
    def shown(self):
        """Ids of the epochs of "visit" that edges showed."""
        return {epoch for seen in self.seen.values() for epoch in seen.epochs}


class Look:
    """At what a worker of an edge shows now; over one connection, so that it is one."""

    def __init__(self, edge):
        connection = Connection(edge.port)
        connection.send(request("/look", headers={"X-Account": "looks"}) + request("/metrics"))
        pid, epoch, self.variant, self.share, *reasons = connection.receive().text.split("|")
        metrics = connection.receive().text
        connection.close()
        self.pid, self.epoch = int(pid), int(epoch)
        self.killed = frozenset(lamp(n) for n, reason in enumerate(reasons) if reason == "killed")
        self.version = int(re.search(r"^nginx_experiment_document_version (\d+)$", metrics, re.M).group(1))

    @property
    def agreed(self):
        return self.epoch, self.killed, self.version


class Partitions:
    """Edges of one namespace; `server` is where it stands. Use as a context."""

    def __init__(self, edges, server, count=3, seed=1, **more):
        self.server, self.servers, self.chance = server, [server], random.Random(seed)
        self.number = self.version = 1  # of texts that were published, and of the document that stands
        self.killed = 0  # how many lamps were
        self.resumed = set()
        self.ways = [FaultProxy(server.port) for _ in range(count)]
        urls = {n: f"redis://{way.address}" for n, way in enumerate(self.ways)}
        self.fleet = Fleet(edges, self.url(), CONF, count=count, definitions=definitions(self.number), urls=urls,
                           **more)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for way in self.ways:
            way.end()
        for server in self.servers[1:]:
            server.end()

    def url(self, server=None):
        return f"redis://{(server or self.server).address}"

    def look(self, number):
        return Look(self.fleet[number])

    def epoch_in(self, server=None):
        """Id of the current epoch of "visit"."""
        with (server or self.server).client() as client:
            return max(id for _, id in epochs_of(client.hget(f"{SPACE}:ctl", "x:visit")))

    def wait(self, condition):
        self.fleet[0].wait(condition, seconds=PATIENCE_S, step=0.05)

    # --- ways ---
    def close(self, *numbers):
        for number in numbers:
            self.ways[number].refuses = True
        for _ in range(2):  # one may have been made meanwhile
            for number in numbers:
                self.ways[number].drop()
            time.sleep(0.1)

    def open(self, *numbers, to=None):
        for number in numbers:
            self.ways[number].target = (to or self.server).port
            self.ways[number].refuses = False

    def give(self, fault):
        for way in self.ways:
            way.fault = fault()
            way.drop()

    # --- what people do ---
    def publish(self, server=None):
        self.number += 1
        self.version += 1
        ctl(self.url(server), "publish", "-", check=True, stdin=json.dumps(definitions(self.number)))

    def kill(self, server=None):
        key = lamp(self.killed)
        ctl(self.url(server), "kill", key, "--reason", "it burns", check=True)
        self.killed += 1
        return key

    def resume(self, key, server=None):
        ctl(self.url(server), "resume", key, "--reason", "it does not", check=True)
        self.resumed.add(key)

    def allocator(self):
        """Number of the edge that has the lease, None when nobody has."""
        with self.server.client() as client:
            holder = (client.hget(f"{SPACE}:ctl", "lease") or b"").split(b" ")[0].decode()
        holds = lambda edge: (edge.state / "counters" / f"{holder}.lock").exists()
        return next((n for n, edge in enumerate(self.fleet) if holds(edge)), None)

    # --- events ---
    def one_is_cut_off(self):
        number = self.chance.randrange(len(self.ways))
        self.close(number)
        time.sleep(2)
        self.open(number)

    def the_allocator_is_cut_off(self):
        self.wait(lambda: self.allocator() is not None)
        before = self.allocator()
        self.close(before)
        self.wait(lambda: self.allocator() not in (before, None))
        self.another_epoch()
        self.open(before)

    def another_epoch(self, server=None):
        before = self.epoch_in(server)
        self.wait(lambda: self.epoch_in(server) > before)

    def the_store_goes_back(self):
        """As a failover that forgets what was done last: a kill, a resume, a document and an epoch."""
        burning = self.kill()
        self.wait(lambda: all(burning in self.look(n).killed for n in range(len(self.ways))))
        with self.server.client() as client:
            client.save()
        self.publish()
        killed = self.kill()
        self.resume(burning)
        self.another_epoch()
        told = lambda look: look.version == self.version and killed in look.killed and burning not in look.killed
        self.wait(lambda: any(told(self.look(n)) for n in range(len(self.ways))))
        self.server.kill()
        self.server.start()

    def the_fleet_is_divided(self):
        """Over two servers that were one; of which one remains."""
        with self.server.client() as client:
            client.save()
        other = RedisServer(start=False)
        shutil.copy(self.server.folder / "dump.rdb", other.folder / "dump.rdb")
        other.start()
        self.servers.append(other)
        numbers = list(range(len(self.ways)))
        self.chance.shuffle(numbers)
        here, there = numbers[:1], numbers[1:]
        self.close(*there)
        self.open(*there, to=other)
        for side in self.server, other:
            self.another_epoch(side)
        (one, edges_of_one), (two, edges_of_two) = self.chance.sample([(self.server, here), (other, there)], 2)
        killed = self.kill(one)
        self.publish(one)
        if self.chance.random() < 0.5:  # another one under the same version: that of the server that remains holds
            self.publish(two)
            self.version -= 1
            self.wait(lambda: all(self.look(n).version == self.version for n in edges_of_two))
        told = lambda look: look.version == self.version and killed in look.killed
        self.wait(lambda: all(told(self.look(n)) for n in edges_of_one))
        self.close(*numbers)
        self.server, gone = self.chance.sample([self.server, other], 2)
        gone.kill()
        self.open(*numbers)

    def the_answer_to_a_publication_is_lost(self):
        """Of an epoch: the store has it, and its allocator cannot know."""
        self.give(lambda: CutReplies(b"\r\nexperiment_write\r\n", [1]))
        self.wait(lambda: any(way.fault.made for way in self.ways))
        self.give(lambda: whole)

    EVENTS = (one_is_cut_off, the_allocator_is_cut_off, the_store_goes_back, the_fleet_is_divided,
              the_answer_to_a_publication_is_lost)

    def agree(self):
        """Whether all edges show the same epoch, kills and document, and these are the newest."""
        looks = {self.look(n).agreed for n in range(len(self.ways))}
        epoch, _, version = looks.pop()
        texts = {json.loads((edge.state / "definitions.good.json").read_text())["state"]["text"] for edge in self.fleet}
        with self.server.client() as client:
            stands = client.hget(f"{SPACE}:ctl", "doc").decode()
        return not looks and version == self.version and epoch == self.epoch_in() and texts == {stands}
