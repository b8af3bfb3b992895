"""Real Sentinels and a real Cluster, of servers of the test's own."""
import contextlib
import time

import redis
from redis.crc import key_slot

from lib.redis_cluster import RedisCluster
from lib.redis_server import RedisServer


def wait(condition, seconds=20, step=0.05):
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError, OSError, IndexError, KeyError):
            if result := condition():
                return result
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(step)


class Sentinels:
    """A master with replicas, watched by three sentinels under the name "shop"."""

    NAME = "shop"
    PATIENCE_S = 15

    def __init__(self, replicas=1, **options):
        self.options = {"repl_diskless_sync_delay": 0, "repl_timeout": 5, **options}
        first = RedisServer(**self.options)
        self.servers = [first] + [RedisServer(replicaof=f"127.0.0.1 {first.port}", **self.options)
                                  for _ in range(replicas)]
        self.sentinels = [RedisServer(arguments=["--sentinel"], start=False) for _ in range(3)]
        for sentinel in self.sentinels:
            self.begin(sentinel, first)
        wait(lambda: all(len(s.ask("SENTINEL", "SENTINELS", self.NAME)) == 2 and
                         len(s.ask("SENTINEL", "REPLICAS", self.NAME)) == replicas for s in self.sentinels))

    def begin(self, sentinel, master):
        from lib.edge import free_port
        sentinel.port = free_port()
        sentinel.conf.write_text(
            f"port {sentinel.port}\nbind 127.0.0.1\ndir {sentinel.folder}\nlogfile {sentinel.log}\n"
            f"unixsocket {sentinel.socket}\n"
            f"sentinel monitor {self.NAME} 127.0.0.1 {master.port} 2\n"
            f"sentinel down-after-milliseconds {self.NAME} 500\nsentinel failover-timeout {self.NAME} 3000\n")
        sentinel.start(reconfigure=False)
        sentinel.ask = lambda *words: sentinel.client().execute_command(*words)

    @property
    def url(self):
        return "redis+sentinel://" + ",".join(s.address for s in self.sentinels) + "/" + self.NAME

    def master(self):
        """The server that is the master now."""
        for server in self.servers:
            with contextlib.suppress(redis.RedisError):
                if server.process and server.client().role()[0] in (b"master", "master"):
                    address = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.NAME)
                    if int(address[1]) == server.port:
                        return server
        return None

    def db(self):
        return wait(self.master).client()

    def fail_over(self, kill=False):
        """Another one is the master when it returns."""
        before, asked = wait(self.master), -self.PATIENCE_S
        if kill:
            before.kill()

        def changed():
            nonlocal asked
            now = self.master()
            if now and now is not before:
                return now
            # Sentinels give up where a replica is slow to follow, and have to be asked again.
            if not kill and time.monotonic() - asked > self.PATIENCE_S:
                self.sentinels[0].ask("SENTINEL", "FAILOVER", self.NAME)
                asked = time.monotonic()
            return None
        after = wait(changed, seconds=60)
        if kill:
            before.options["replicaof"] = f"127.0.0.1 {after.port}"
            before.start()
        return after

    def end(self):
        for server in [*self.sentinels, *self.servers]:
            server.end()


class Cluster(RedisCluster):
    """Three masters with a replica each, by default, whose roles and slots move."""

    def __init__(self, masters=3, replicas=1, **options):
        super().__init__(masters, replicas, node_timeout_ms=1000, repl_diskless_sync_delay=0, **options)
        wait(lambda: sum(s.client().role()[0] == b"slave" for s in self.servers) == masters * replicas)

    @staticmethod
    def ask(server, *words):
        with server.client() as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)

    @property
    def url(self):
        return "redis+cluster://" + ",".join(server.address for server in self.servers[:3])

    def db(self):
        return redis.RedisCluster("127.0.0.1", self.servers[0].port)

    def fail_over(self, number):
        """The replica of this slot's master takes over."""
        replicas = [s for s in self.servers if s.client().role()[0] == b"slave"]
        replica = replicas[number % len(replicas)]
        wait(lambda: self.ask(replica, "CLUSTER", "FAILOVER"))
        wait(lambda: replica.client().role()[0] == b"master")
        wait(self.same_everywhere)

    def same_everywhere(self):
        """Whether all nodes tell the same masters of the same slots."""
        told = lambda server: sorted((first, last, master[1]) for first, last, master, *_
                                     in self.ask(server, "CLUSTER", "SLOTS"))
        return len({str(told(server)) for server in self.servers}) == 1

    def move(self, key):
        """The slot of this key to another master, key by key, as redis-cli does."""
        slot, source, masters = key_slot(key.encode()), self.holder_of(key), self.masters
        target = next(s for s in masters if s is not source)
        source_id, target_id = (self.ask(s, "CLUSTER", "MYID") for s in (source, target))
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 10):
            time.sleep(0.3)  # requests meet a slot that moves
            self.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for server in [target, source, *masters]:
            self.ask(server, "CLUSTER", "SETSLOT", slot, "NODE", target_id)
        wait(self.same_everywhere)
