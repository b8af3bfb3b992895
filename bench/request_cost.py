#!/usr/bin/python3
"""Instructions that a request costs in nginx, by callgrind: what experiments add, beside what split_clients adds, in one run.

    bench/request_cost.py [SCENARIO...]

Each scenario runs nginx under callgrind twice, with few and with many requests over one kept connection to a worker that does not lead; the
difference over the number of requests is what one request costs. What timers do meanwhile is in it: a few percent.
"""
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "t"))
from lib.edge import Edge, document, experiment  # noqa: E402

FEW, MANY = 200, 5200
ZONE = """
    experiment_zone zone=experiments:8m state={folder}/state;
    experiment_unit account header=X-Account;
    experiment_types *;
"""
SPLIT = 'split_clients "$http_x_account" $v%d { 50%% a; * b; }\n'


def server(location, before=""):
    return before + """
    keepalive_requests 1000000;
    server { listen 127.0.0.1:{port};
        location = /pid { return 200 "$pid"; }
        location / { """ + location + """ } }"""


def scenarios():
    ten = range(10)
    values = lambda name: "".join(f"${name}{i}" for i in ten)
    fixed = lambda n: document(*(experiment(f"e{i}", ("a", "b"), unit="account") for i in range(n)))
    yield "plain", "", server('return 200 "ok";'), None
    yield "constant header", "", server('add_header X-V a; return 200 "ok";'), None
    yield "split_clients 1", "", server('return 200 "$v0";', SPLIT % 0), None
    yield "split_clients 10", "", server(f'return 200 "{values("v")}";', "".join(SPLIT % i for i in ten)), None
    yield "module, no experiment", ZONE, server('return 200 "ok";'), document()
    yield "experiments 1", ZONE, server('experiment all; return 200 "$variant_e0";'), fixed(1)
    yield "experiments 10", ZONE, server(f'experiment all; return 200 "{values("variant_e")}";'), fixed(10)


def instructions(folder, pid):
    text = next(folder.glob(f"callgrind.{pid}*")).read_text(errors="replace")
    return int(re.search(r"^(?:summary|totals): (\d+)", text, re.M).group(1))


class Measured(Edge):
    """An edge whose nginx runs under callgrind."""

    def command(self, *args):
        out = self.folder / "callgrind.%p"
        return subprocess.run(["valgrind", "--tool=callgrind", "--trace-children=yes", f"--callgrind-out-file={out}", "-q",
                               "/usr/sbin/nginx", "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"),
                               "-e", str(self.log), *args],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              timeout=120)


def ask(connection, path):
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Account: visitor-{path}\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"Content-Length: (\d+)", head).group(1))
    while len(body) < length:
        body += connection.recv(65536)
    return body.decode()


def run(zone, http, definitions, requests):
    with tempfile.TemporaryDirectory(prefix="request-cost-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o777)
        edge = Measured(folder, http, definitions, zone=zone, workers=2, start=False)
        edge.start()
        leader = edge.lines(r"in use, \d+ experiments")
        leading = re.search(r"\[notice\] (\d+)#", leader[0]).group(1) if leader else ""
        while True:
            connection = socket.create_connection(("127.0.0.1", edge.port), timeout=60)
            pid = ask(connection, "/pid")
            if pid != leading:
                break
            connection.close()
        for i in range(requests):
            ask(connection, "/")
        connection.close()
        edge.end()
        return instructions(folder, pid)


def main():
    wanted = sys.argv[1:]
    base = None
    print(f"{'scenario':28} {'instructions':>12} {'added':>8}")
    for name, zone, http, definitions in scenarios():
        if wanted and name not in wanted and name != "plain":
            continue
        cost = (run(zone, http, definitions, MANY) - run(zone, http, definitions, FEW)) / (MANY - FEW)
        base = cost if base is None else base
        print(f"{name:28} {cost:12.0f} {cost - base:8.0f}", flush=True)


if __name__ == "__main__":
    os.umask(0o022)
    main()
