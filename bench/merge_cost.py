#!/usr/bin/python3
"""What the counters of a fleet cost Redis: each merge, beside plain HINCRBY, and ten thousand edges at once.

    bench/merge_cost.py [PART...] [--edges N] [--experiments N] [--cells N] [--seconds S] [--markdown]

merges   the server's processor time per flush, by open epochs and cells of each, when nothing, half of the
         cells and all of them have grown; beside it the same growth by HINCRBY, which loses or doubles it when
         an answer is lost. From that, how many edges keep one core of Redis busy.
edges    edges, each an instance with a connection of its own, flush every 5 s against one server
cluster  the same against three masters

Processor time is the server's own (INFO cpu), so it holds on a machine that does other things as well. Round
trips are those of this machine with everything on it. After each run the totals are compared with what was
counted.
"""
import argparse
import pathlib
import random
import resource
import select
import socket
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "t"))
from lib.redis_cluster import RedisCluster  # noqa: E402
from lib.redis_library import LIBRARY, Library  # noqa: E402
from lib.redis_server import RedisServer  # noqa: E402

INTERVAL_S = 5
BUSY = 0.7
EPOCH = 7 * 2**20 + 12345
CALLS = 100  # in one pipeline
SPARE_FILES = 1000


def table(title, heads, rows, options):
    print(f"\n{title}\n")
    if options.markdown:
        for cells in (heads, ["--:"] * len(heads), *rows):
            print("| " + " | ".join(map(str, cells)) + " |")
        return
    widths = [max(len(str(row[i])) for row in (heads, *rows)) for i in range(len(heads))]
    for cells in (heads, *rows):
        print("  ".join(str(cell).rjust(width) for cell, width in zip(cells, widths)))


def processor_s(client):
    cpu = client.info("cpu")
    return cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"]


# --- merges -----------------------------------------------------------------------------------------------

class Counters:
    """What one instance has counted; `share` of the cells grow from flush to flush."""

    def __init__(self, epochs, cells, share):
        self.share, self.rng = share, random.Random(1)
        self.vectors = {EPOCH + 2**20 * n: [self.rng.randrange(10**5) for _ in range(cells)]
                        for n in range(epochs)}

    def grow(self):
        """(epoch, cell, by how much) of what grew."""
        grown = []
        for epoch, vector in self.vectors.items():
            for cell in range(len(vector)):
                if self.rng.random() < self.share:
                    grown.append((epoch, cell, self.rng.randrange(1, 20)))
                    vector[cell] += grown[-1][2]
        return grown

    def merge(self, library, instance):
        pairs = [word for epoch, vector in self.vectors.items()
                 for word in (epoch, ",".join(map(str, vector)))]
        return library.words("merge", ["k"], instance, *pairs)


def flush_us(client, commands_of, rounds):
    """Processor time of one flush: the least of some rounds."""
    spent = []
    for _ in range(rounds):
        pipeline = client.pipeline(transaction=False)
        for _ in range(CALLS):
            for words in commands_of():
                pipeline.execute_command(*words)
        before = processor_s(client)
        pipeline.execute()
        spent.append((processor_s(client) - before) / CALLS * 1e6)
    return min(spent)


def merge_us(client, form, epochs, cells, share, rounds):
    client.flushdb()
    library, counters = Library(client, form), Counters(epochs, cells, share)
    for instance in ("0" * 22, "1" * 22):  # so that totals are not what one instance has
        client.execute_command(*counters.merge(library, instance))

    def commands():
        counters.grow()
        return [counters.merge(library, "0" * 22)]
    return flush_us(client, commands, rounds)


def increment_us(client, epochs, cells, share, rounds):
    client.flushdb()
    counters = Counters(epochs, cells, share)
    return flush_us(client, lambda: [("HINCRBY", "k", f"t:{epoch}:{cell}", by)
                                     for epoch, cell, by in counters.grow()], rounds)


def merges(options):
    rows, carried = [], []
    with RedisServer() as server, server.client() as client:
        for epochs in (1, 4, 16):
            for cells in (6, 15, 39):
                merged = [merge_us(client, "function", epochs, cells, share, options.rounds)
                          for share in (0, 0.5, 1)]
                script = merge_us(client, "script", epochs, cells, 0.5, options.rounds)
                added = [increment_us(client, epochs, cells, share, options.rounds) for share in (0.5, 1)]
                rows.append([epochs, cells, *(f"{us:.1f}" for us in (*merged, script, *added))])
                if epochs == 1:
                    flushes = INTERVAL_S * BUSY / (merged[1] * 1e-6)
                    carried += [[cells, experiments, f"{flushes / experiments:,.0f}"] for experiments in (5, 50)]
    table("Microseconds of the server's processor per flush",
          ["epochs", "cells", "nothing new", "half grown", "all grown", "as script, half", "HINCRBY, half",
           "HINCRBY, all"], rows, options)
    table(f"Edges that keep one core {BUSY:.0%} busy: every {INTERVAL_S} s half of the cells of one epoch have grown"
          " in each experiment", ["cells", "experiments", "edges"], carried, options)


# --- a fleet ----------------------------------------------------------------------------------------------

def command(*words):
    """In the form of the protocol."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class Connection:
    """Of an edge to a server; of several where there are not enough files."""

    def __init__(self, server):
        self.socket = socket.socket()
        self.socket.connect(("127.0.0.1", server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.waits = []  # of each flush: when it went out, and how many answers it lacks
        self.rest = b""  # half an answer

    def send(self, data, answers):
        self.socket.sendall(data)
        self.waits.append([time.monotonic(), answers])

    def receive(self):
        """Seconds of the flushes that are answered. An answer is {mark, created, status}."""
        lines = (self.rest + self.socket.recv(1 << 16)).split(b"\r\n")
        done, at = [], 0
        while len(lines) - at > 4:
            assert lines[at] == b"*3" and lines[at + 3] in (b":0", b":1"), lines[at:at + 4]
            at += 4
            self.waits[0][1] -= 1
            if not self.waits[0][1]:
                done.append(time.monotonic() - self.waits.pop(0)[0])
        self.rest = b"\r\n".join(lines[at:])
        return done


class Fleet:
    def __init__(self, options, servers, holder_of):
        self.options, self.servers, self.rng = options, servers, random.Random(1)
        self.keys = [f"experiment:c:experiment-{n}:1" for n in range(options.experiments)]
        self.place = [servers.index(holder_of(key)) for key in self.keys]
        self.vectors = [[[0] * options.cells for _ in self.keys] for _ in range(options.edges)]
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.each = min(options.edges, (limit - SPARE_FILES) // len(servers))  # connections to each server
        self.connections, self.poll, self.by_file = [], select.epoll(), {}
        self.under_way, self.trips = 0, []

    def connect(self):
        for server in self.servers:
            self.connections.append([Connection(server) for _ in range(self.each)])
            for connection in self.connections[-1]:
                self.by_file[connection.socket.fileno()] = connection
                self.poll.register(connection.socket, select.EPOLLIN)

    def flush(self, edge):
        """Half of its cells have grown since the last time."""
        data, answers = [b""] * len(self.servers), [0] * len(self.servers)
        for key, place, vector in zip(self.keys, self.place, self.vectors[edge]):
            for cell in self.rng.sample(range(len(vector)), (len(vector) + 1) // 2):
                vector[cell] += self.rng.randrange(1, 20)
            data[place] += command("FCALL", "experiment_merge", 1, key, f"{edge:022d}", EPOCH,
                                   ",".join(map(str, vector)))
            answers[place] += 1
        for place, own in enumerate(self.connections):
            if answers[place]:
                own[edge % self.each].send(data[place], answers[place])
                self.under_way += 1

    def receive(self, wait_s):
        for file, _ in self.poll.poll(wait_s):
            done = self.by_file[file].receive()
            self.under_way -= len(done)
            self.trips += done

    def finish(self):
        while self.under_way:
            self.receive(1)

    def all_once(self):
        for edge in range(self.options.edges):
            self.flush(edge)
            while self.under_way > 200:
                self.receive(1)
        self.finish()

    def go_on(self, seconds):
        """Each edge in its turn within the interval. Returns how many flushes there were, in what time."""
        self.trips, begin, number = [], time.monotonic(), 0
        while (now := time.monotonic() - begin) < seconds:
            due = int(now * self.options.edges / INTERVAL_S)
            if number < due:
                self.flush(number % self.options.edges)
                number += 1
            self.receive(0 if number < due else 0.0005)
        self.finish()
        return number, time.monotonic() - begin

    def check(self):
        for n, (key, place) in enumerate(zip(self.keys, self.place)):
            truth = [sum(vectors[n][cell] for vectors in self.vectors) for cell in range(self.options.cells)]
            with self.servers[place].client(decode_responses=True) as client:
                total = client.hget(key, f"t:{EPOCH}").partition(";")[2]
            assert total == ",".join(map(str, truth)), f"{key}: {total}, expected {truth}"

    def close(self):
        for own in self.connections:
            for connection in own:
                connection.socket.close()


def look(client):
    stats = client.info("stats")
    return {"processor_s": processor_s(client), "in": stats["total_net_input_bytes"],
            "out": stats["total_net_output_bytes"]}


def run(title, options, servers, holder_of):
    clients = [server.client() for server in servers]
    for client in clients:
        client.execute_command("FUNCTION", "LOAD", "REPLACE", LIBRARY)
    fleet = Fleet(options, servers, holder_of)
    try:
        fleet.connect()
        fleet.all_once()
        before = [look(client) for client in clients]
        flushes, seconds = fleet.go_on(options.seconds)
        after = [look(client) for client in clients]
        vectors = [sum(client.memory_usage(key, samples=0) for key in client.keys("*")) for client in clients]
        connections = [client.info("memory")["mem_clients_normal"] for client in clients]
        fleet.check()
    finally:
        fleet.close()
    rows = []
    for n, (then, now) in enumerate(zip(before, after)):
        merged, spent = flushes * fleet.place.count(n), now["processor_s"] - then["processor_s"]
        traffic = [f"{(now[way] - then[way]) / seconds / 1e3:,.0f}" for way in ("in", "out")]
        rows.append([n + 1, fleet.place.count(n), f"{merged / seconds:,.0f}", f"{spent / seconds:.1%}",
                     f"{spent / max(merged, 1) * 1e6:.1f}", *traffic, f"{vectors[n] / 1e6:.1f}",
                     f"{connections[n] / 1e6:.1f}"])
    table(f"{title}: {options.edges:,} edges, {options.experiments} experiments of {options.cells} cells, "
          f"{fleet.each:,} connections to each server",
          ["server", "experiments", "merges/s", "processor", "us per merge", "kB/s in", "kB/s out",
           "MB of vectors", "MB of connections"], rows, options)
    asked, quantiles = options.edges / INTERVAL_S, statistics.quantiles(fleet.trips, n=100)
    print(f"\n{flushes / seconds:,.0f} flushes/s of {asked:,.0f} that were due; round trip p50 "
          f"{quantiles[49] * 1e3:.1f} ms, p99 {quantiles[98] * 1e3:.1f} ms; totals are what was counted")


def edges(options):
    with RedisServer(maxclients=options.edges + 100) as server:
        run("One server", options, [server], lambda key: server)


def cluster(options):
    with RedisCluster(masters=3, node_timeout_ms=15000, maxclients=options.edges + 100) as made:
        run("Three masters", options, made.servers, made.holder_of)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", choices=["merges", "edges", "cluster", []])
    parser.add_argument("--edges", type=int, default=10000)
    parser.add_argument("--experiments", type=int, default=5)
    parser.add_argument("--cells", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    for part in options.parts or ("merges", "edges", "cluster"):
        globals()[part](options)


if __name__ == "__main__":
    main()
