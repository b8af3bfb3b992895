"""A cluster of real redis-servers on loopback, made by redis-cli.

    with RedisCluster(masters=3, replicas=1) as cluster:
        cluster.holder_of("experiment:ctl").client().hgetall("experiment:ctl")
"""
import shutil
import subprocess

from redis.crc import key_slot

from lib.redis_server import RedisServer

CLI = shutil.which("redis-cli") or "/usr/bin/redis-cli"


class RedisCluster:
    """`replicas`: of each master. `options` are of each server, as of RedisServer. `node_timeout_ms`: how long a
    node may be silent before the others give it up; a busy machine makes one silent as well.
    """

    def __init__(self, masters=3, replicas=0, node_timeout_ms=5000, **options):
        self.servers = []
        options = {"cluster_enabled": "yes", "cluster_node_timeout": node_timeout_ms, **options}
        try:
            for _ in range(masters * (1 + replicas)):
                self.servers.append(RedisServer(**options))
            addresses = [server.address for server in self.servers]
            create = ["--cluster", "create", *addresses, "--cluster-replicas", str(replicas), "--cluster-yes"]
            done = subprocess.run([CLI, *create], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stdout + done.stderr
            RedisServer.wait_for(self.agreed)
        except BaseException:
            self.end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def agreed(self):
        """Whether all know all and each slot has a master."""
        for server in self.servers:
            with server.client(decode_responses=True) as client:
                info = client.execute_command("CLUSTER", "INFO")
                if "cluster_state:ok" not in info or f"cluster_known_nodes:{len(self.servers)}\r" not in info:
                    return False
                if sum(last - first + 1 for first, last, *_ in self.slots(client)) != 2**14:
                    return False
        return True

    @staticmethod
    def slots(client):
        """[first, last, [address, port, ...] of the master, ...] of each span."""
        return client.execute_command("CLUSTER SLOTS")

    @property
    def masters(self):
        """Those that run and are masters now."""
        found = []
        for server in self.servers:
            if server.pid:
                with server.client(decode_responses=True) as client:
                    if client.info("replication")["role"] == "master":
                        found.append(server)
        return found

    def holder_of(self, key):
        """The master that has this key now."""
        slot = key_slot(key.encode())
        for server in self.masters:
            with server.client(decode_responses=True) as client:
                for first, last, master, *_ in self.slots(client):
                    if first <= slot <= last and master[1] == server.port:
                        return server
        raise AssertionError(f"no master has slot {slot} of {key}")

    def end(self):
        for server in self.servers:
            server.end()
