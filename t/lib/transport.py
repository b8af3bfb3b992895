"""One edge and its Redis, looked at from both ends: what it serves, and which connections there are."""
import contextlib
import json
import os
import pathlib
import random
import re
import threading
import time

import xxhash

from lib.client import get
from lib.edge import ZONE, document, experiment
from lib.redis_library import CONTROL, Library

CONF = """
    %s
    server {
        listen 127.0.0.1:{port};
        location / { experiment all; return 200 "$variant_one|$variant_two|$variant_three|$variant_four"; }
    }
"""
NAMES = ["one", "two", "three", "four"]
KEYS = "5b" * 32 + "\n"


def make_edge(edges, url, options="", http="", files=None, start=True, **more):
    """`http` is put into the http block, `files` into the edge's folder: {name: (text, mode)}."""
    line = f"    experiment_store {url} {options};\n    experiment_keys {{folder}}/keys;\n"
    edge = edges(CONF % http, zone=ZONE + line, start=False, **more)
    for name, (text, mode) in {"keys": (KEYS, 0o644), **(files or {})}.items():
        (edge.folder / name).write_text(text)
        (edge.folder / name).chmod(mode)
    if start:
        edge.start()
    return edge


class Published:
    """Document number n has the first n experiments."""

    def __init__(self, db):
        self.db, self.number = db, 0

    def __call__(self, number=None):
        self.number = number or self.number + 1
        library = Library(self.db, "function")  # the server may have been started anew
        text = json.dumps(document(*(experiment(key, ("v",), goals=[], unit="account")
                                     for key in NAMES[:self.number])))
        meta = json.dumps({"version": self.number, "digest": xxhash.xxh3_128_hexdigest(text), "at_s": 0,
                           "by": "test"})
        for _ in range(100):
            now = self.db.hget(CONTROL, "v") or b"0"
            answer = library.write(CONTROL, now, random.getrandbits(20), "experiment:push",
                                   "d", meta, "doc", text)
            if answer[0] == 1:
                return self
        raise AssertionError("others write all the time")


def serves(edge):
    """How many experiments the edge knows."""
    return get(edge.port, "/", {"X-Account": "someone"}).text.split("|").count("v")


def wait_served(edge, number, seconds=5):
    edge.wait(lambda: serves(edge) == number, seconds=seconds)


class Traffic:
    """Requests one after the other, meanwhile: all are answered, and soon."""

    def __init__(self, edge):
        self.edge, self.slow, self.bad, self.count, self.ended = edge, [], [], 0, False
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def run(self):
        while not self.ended or self.count <= 5:
            begun = time.monotonic()
            try:
                status = get(self.edge.port, "/", {"X-Account": str(self.count)}).status
            except OSError as error:
                status = error
            took = time.monotonic() - begun
            self.count += 1
            if status != 200:
                self.bad.append(status)
            if took > 0.4:
                self.slow.append(took)
            time.sleep(0.002)

    def __exit__(self, *exception):
        self.ended = True
        self.thread.join()
        if exception[0] is None:
            assert not self.bad and len(self.slow) <= 1, (self.count, self.bad, self.slow)


def sockets(pid):
    """Inodes of the sockets that a process holds."""
    found = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if match := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry)):
                    found.add(match.group(1))
    return found


def connections(edge, port):
    """{pid of a worker: connections to this port}."""
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    there = {row[9] for row in rows if row[2].endswith(f":{port:04X}") and row[3] == "01"}
    return {pid: len(sockets(pid) & there) for pid in edge.children()}


def clients(server):
    return [c for c in server.client().client_list() if c["name"] == "nginx-experiment"]
