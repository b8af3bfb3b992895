"""A real redis-server of a test's own: on loopback, in a folder of its own, ended by its pid.

    with RedisServer(folder, appendonly="yes") as server:
        server.client().ping()

What tests do to it: stop, kill, start again with what it had on disk, pause (SIGSTOP), resume, read its log.
"""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import redis

from lib.edge import free_port

PROGRAM = os.environ.get("REDIS_SERVER") or shutil.which("redis-server") or "/usr/bin/redis-server"  # a Valkey, say
STARTS = 5  # ports are free when they are looked for, not yet when they are taken
BUS = 10000  # from a port to that at which nodes of a cluster talk


def free_ports(cluster):
    """A port, for a node of a cluster one whose bus has a port as well."""
    while True:
        port = free_port()
        if not cluster:
            return port
        with socket.socket() as bus:
            if port + BUS < 2**16 and bus.connect_ex(("127.0.0.1", port + BUS)) != 0:
                return port


class RedisServer:
    """`options` are lines of redis.conf, with _ for -: a value, or a list of values for what may stand more than
    once. Without any nothing is written to disk. `folder`: None makes one, which goes when the server ends.

    `tls`: paths of certificate, key and CA; the server listens at `tls_port` then, and at `port` as well.
    `arguments` go to the command line ("--sentinel").
    """

    def __init__(self, folder=None, *, port=None, tls=None, arguments=(), start=True, **options):
        self.own_folder = folder is None
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="experiment-redis-"))
        self.folder.mkdir(exist_ok=True)
        self.fixed_port, self.port, self.tls, self.tls_port = port, port, tls, None
        self.socket = self.folder / "redis.sock"
        self.log = self.folder / "redis.log"
        self.conf = self.folder / "redis.conf"
        self.arguments, self.options = arguments, options
        self.process = None
        if start:
            self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    @property
    def pid(self):
        return self.process.pid if self.process else None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def configure(self):
        """Writes redis.conf anew, also where the server has rewritten it."""
        lines = {"bind": "127.0.0.1", "port": self.port, "dir": self.folder, "logfile": self.log,
                 "daemonize": "no", "unixsocket": self.socket, "save": '""', "enable-debug-command": "yes"}
        if self.tls:
            certificate, key, authority = self.tls
            lines.update({"tls-port": self.tls_port, "tls-cert-file": certificate, "tls-key-file": key,
                          "tls-ca-cert-file": authority, "tls-auth-clients": "no"})
        lines.update({name.replace("_", "-"): value for name, value in self.options.items()})
        text = "".join(f"{name} {value}\n" for name, values in lines.items()
                       for value in (values if isinstance(values, (list, tuple)) else [values]))
        self.conf.write_text(text)

    def start(self, wait=True, reconfigure=True):
        """Starts with what is on disk, at the same port as before. `wait`: until it answers.
        `reconfigure`: not where the server itself keeps its redis.conf, as sentinels do.
        """
        assert not self.process, f"already runs as {self.pid}"
        first = self.port is None
        for attempt in range(STARTS):
            if first and not self.fixed_port:
                self.port = free_ports("cluster_enabled" in self.options)
            if self.tls and (first or not self.tls_port):
                self.tls_port = free_port()
            if reconfigure or not self.conf.exists():
                self.configure()
            with open(self.folder / "redis.out", "ab") as out:
                self.process = subprocess.Popen([PROGRAM, self.conf, *self.arguments], stdout=out, stderr=out,
                                                stdin=subprocess.DEVNULL, cwd=self.folder)
            if not wait or self.wait_ready(allow_end=first and attempt + 1 < STARTS):
                return self
            self.process = None
        raise AssertionError(f"redis-server does not start: {self.text()}")

    def wait_ready(self, seconds=20, allow_end=False):
        """Until it answers and has loaded what was on disk."""
        end = time.monotonic() + seconds
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return True
                except redis.AuthenticationError:
                    return True
                except redis.RedisError as error:
                    if self.process.poll() is not None:
                        assert allow_end, f"redis-server has ended: {self.text()}"
                        return False
                    assert time.monotonic() < end, f"redis-server does not answer: {error}\n{self.text()}"
                time.sleep(0.01)

    @staticmethod
    def wait_for(condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds} s in vain"
            time.sleep(0.01)

    def client(self, **options):
        """By the unix socket; `port=True`: by TCP. It never tries again: a test wants to see what happened."""
        if options.pop("port", False):
            return redis.Redis("127.0.0.1", self.port, **options)
        return redis.Redis(unix_socket_path=str(self.socket), **options)

    def send(self, number):
        os.kill(self.pid, number)

    def pause(self):
        self.send(signal.SIGSTOP)

    def resume(self):
        self.send(signal.SIGCONT)

    def stop(self, number=signal.SIGTERM):
        """Ends it in order: what is configured to be kept is on disk then."""
        if not self.process:
            return
        self.send(signal.SIGCONT)  # a paused one would not hear of it
        self.send(number)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"redis-server did not end: {self.text()}") from None
        finally:
            self.process = None

    def kill(self):
        """As a machine that loses power, but for what the kernel has of its files."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def restart(self):
        self.stop()
        self.start()

    def end(self):
        if self.process:
            self.stop(signal.SIGKILL)
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def text(self):
        """What it logged, and said before it could."""
        return "".join(path.read_text(errors="replace") for path in (self.folder / "redis.out", self.log)
                       if path.exists())
