#!/usr/bin/python3
"""What three ways to count over a network lose: plain HINCRBY, deltas with sequence numbers, and our merged totals.

    bench/counter_protocols.py [--edges 10] [--flushes 1200] [--failovers 12] [--seed 1]

A real master and a real replica. Edges count, and flush over a network that loses requests and acknowledgements and
delivers some twice and late; failovers promote a replica that stopped replicating a while before, so that it lacks
acknowledged writes. All three see the same counts and the same faults. Printed is the sum in the store beside the
truth, after every edge has flushed a last time.
"""
import argparse
import pathlib
import random
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "t"))

from lib.redis_server import RedisServer  # noqa: E402

LIBRARY = pathlib.Path(__file__).resolve().parent.parent / "shared/redis/experiment.lua"
SEQUENCED = """
local last = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if tonumber(ARGV[2]) <= last then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HINCRBY', KEYS[1], 'total', ARGV[3])
return 1
"""


class Increments:
    """HINCRBY of what was counted since the last acknowledged one, sent again when no acknowledgement came."""
    name = "HINCRBY, with retry"

    def __init__(self, edge):
        self.edge, self.acknowledged, self.pending = edge, 0, None

    def flush(self, counted):
        if self.pending is None:
            self.pending = counted - self.acknowledged
        amount = self.pending
        return lambda client: client.hincrby("plain", "total", amount)

    def acknowledge(self):
        self.acknowledged += self.pending
        self.pending = None

    @staticmethod
    def total(client):
        return int(client.hget("plain", "total") or 0)


class Deltas(Increments):
    """The same with a sequence number by which the server knows what it has had."""
    name = "sequenced deltas"

    def __init__(self, edge):
        super().__init__(edge)
        self.number = 0

    def flush(self, counted):
        if self.pending is None:
            self.pending = counted - self.acknowledged
            self.number += 1
        number, amount = self.number, self.pending
        return lambda client: client.eval(SEQUENCED, 1, "sequenced", f"edge{self.edge}", number, amount)

    @staticmethod
    def total(client):
        return int(client.hget("sequenced", "total") or 0)


class Merged:
    """Ours: absolute totals, merged by max."""
    name = "merged totals (ours)"

    def __init__(self, edge):
        self.edge = edge

    def flush(self, counted):
        return lambda client: client.fcall("experiment_merge", 1, "x:c:button:1", f"edge{self.edge}", "1048577",
                                           str(counted))

    def acknowledge(self):
        pass

    @staticmethod
    def total(client):
        value = client.hget("x:c:button:1", "t:1048577")
        return int(value.split(b";")[1]) if value else 0


class Pair:
    """A master and a replica; fail_over() loses what the replica has not got."""

    def __init__(self, folder):
        self.folder, self.made = folder, 0
        self.master = self.start()
        self.master.db.function_load(LIBRARY.read_text())
        self.replica = self.follow()

    def start(self):
        self.made += 1
        server = RedisServer(self.folder / f"redis{self.made}", repl_diskless_sync_delay=0)
        server.db = server.client()
        return server

    def follow(self):
        replica = self.start()
        replica.db.replicaof("127.0.0.1", self.master.port)
        while replica.db.info("replication").get("master_link_status") != "up":
            time.sleep(0.01)
        return replica

    def stall(self):
        self.replica.pause()

    def fail_over(self):
        self.master.kill()
        self.replica.resume()
        self.replica.db.replicaof("NO", "ONE")
        self.master = self.replica
        self.replica = self.follow()

    def close(self):
        for server in (self.master, self.replica):
            server.end()


def run(pair, options):
    chance = random.Random(options.seed)
    protocols = [Increments, Deltas, Merged]
    edges = [[protocol(edge) for protocol in protocols] for edge in range(options.edges)]
    counted = [0] * options.edges
    late = []
    every = options.flushes // (options.failovers + 1) if options.failovers else options.flushes + 1
    for flush in range(1, options.flushes + 1):
        edge = chance.randrange(options.edges)
        counted[edge] += chance.randrange(1, 50)
        lost, unheard, twice = chance.random() < 0.05, chance.random() < 0.05, chance.random() < 0.02
        for protocol in edges[edge]:
            send = protocol.flush(counted[edge])
            if lost:
                continue
            send(pair.master.db)
            if twice:
                late.append((flush + chance.randrange(1, 30), send))
            if not unheard:
                protocol.acknowledge()
        for due, send in [item for item in late if item[0] <= flush]:
            send(pair.master.db)
        late = [item for item in late if item[0] > flush]
        if flush % every == every - 20:
            pair.stall()
        if flush % every == 0:
            pair.fail_over()
    for edge in range(options.edges):
        for protocol in edges[edge]:
            for _ in range(2):  # what was pending, and what came since
                protocol.flush(counted[edge])(pair.master.db)
                protocol.acknowledge()
    truth = sum(counted)
    print(f"{options.edges} edges, {options.flushes} flushes, {options.failovers} failovers, truth {truth}")
    for protocol in protocols:
        total = protocol.total(pair.master.db)
        print(f"  {protocol.name:<22} {total:>10}  {total - truth:+8}  {100 * (total - truth) / truth:+.2f} %")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("edges", 10), ("flushes", 1200), ("failovers", 12), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)d")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="experiment-bench-") as folder:
        pair = Pair(pathlib.Path(folder))
        try:
            run(pair, options)
        finally:
            pair.close()


if __name__ == "__main__":
    main()
