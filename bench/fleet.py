#!/usr/bin/python3
"""What a fleet of three edges and a Redis does, measured: how fast a kill holds everywhere, how old an allocation is
when an edge shows it, what the store is asked in the steady state, and what visitors notice of a store in trouble.

    bench/fleet.py [kill] [push-lost] [local] [allocation] [steady] [faults]      all without one; some minutes

Times of a kill begin before experimentctl starts (or the kill file is written) and end when the last worker of the last
edge has answered as killed.
"""
import argparse
import contextlib
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "t"))
from lib.client import Browser, get  # noqa: E402
from lib.edge import CTL, Edge, document, experiment  # noqa: E402
from lib.fleet import Fleet, runtime  # noqa: E402
from lib.load import Connection, request  # noqa: E402
from lib.redis_server import RedisServer  # noqa: E402
from lib.store_faults import FAULTS, Site  # noqa: E402

CONF = """
    keepalive_requests 100000000;
    server {
        listen 127.0.0.1:{port};
        location / { experiment all; return 200 "$variant_button|$experiment_reason_button|$experiment_epoch_button|$pid"; }
        location = /thanks { experiment all; experiment_reward purchase; return 200 ""; }
        location = /metrics { experiment_metrics; }
    }
"""
BUTTON = experiment("button", unit="account")


@contextlib.contextmanager
def making_edges():
    with tempfile.TemporaryDirectory(prefix="experiment-bench-") as name:
        root = pathlib.Path(name)
        root.chmod(0o755)
        made = []

        def edges(*args, **kwargs):
            folder = root / f"edge{len(made)}"
            folder.mkdir(mode=0o755)
            made.append(Edge(folder, *args, **kwargs))
            return made[-1]

        try:
            yield edges
        finally:
            for edge in made:
                edge.end()


@contextlib.contextmanager
def fleet_of(definitions, http=CONF, **more):
    with RedisServer() as server, making_edges() as edges:
        yield Fleet(edges, f"redis://{server.address}", http, definitions=definitions, **more), server


def connections_to_all_workers(edge):
    """{pid: connection}: a kept connection stays with its worker."""
    by_pid = {}
    while len(by_pid) < edge.workers:
        connection = Connection(edge.port)
        pid = told(connection)[3]
        if pid in by_pid:
            connection.close()
        by_pid.setdefault(pid, connection)
    return by_pid


def told(connection, unit="u1"):
    connection.send(request("/", headers={"X-Account": unit}, kind="bare"))
    return connection.receive().text.split("|")


def until(workers, holds):
    """Seconds, by the clock, when the last of these connections' workers answered so."""
    left = list(workers)
    while left:
        left = [connection for connection in left if not holds(*told(connection))]
    return time.monotonic()


def percentiles(values):
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {1000 * statistics.median(ordered):.0f} ms, p99 {1000 * p99:.0f} ms, n = {len(ordered)}"


def workers_of(fleet):
    for edge in fleet:
        edge.wait(lambda: get(edge.port, "/", {"X-Account": "u1"}).text.split("|")[0])
    workers = [c for edge in fleet for c in connections_to_all_workers(edge).values()]
    until(workers, lambda variant, *_: variant)
    return workers


def kill_times(fleet, workers, count):
    times = []
    for _ in range(count):
        began = time.monotonic()
        fleet.ctl("kill", "button", "--reason", "bench", check=True)
        times.append(until(workers, lambda variant, reason, *_: reason == "killed") - began)
        fleet.ctl("resume", "button", "--reason", "bench", check=True)
        until(workers, lambda variant, *_: variant)
    return times


def kill():
    with fleet_of(document(BUTTON)) as (fleet, _):
        times = kill_times(fleet, workers_of(fleet), 100)
        began = time.monotonic()
        for _ in range(20):
            fleet.ctl("list", check=True)
        alone = (time.monotonic() - began) / 20
        print(f"kill, 3 edges of 2 workers: {percentiles(times)}; of it {1000 * alone:.0f} ms are a run of experimentctl")


def push_lost():
    with fleet_of(document(BUTTON)) as (fleet, server):
        workers, stop = workers_of(fleet), threading.Event()

        def cut():
            client = server.client()
            while not stop.is_set():
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                time.sleep(0.002)
        thread = threading.Thread(target=cut)
        thread.start()
        try:
            times = kill_times(fleet, workers, 30)
        finally:
            stop.set()
            thread.join()
        print(f"kill, every push connection cut at once: {percentiles(times)}")


def local():
    """Kills on the edge's own machine while the store is dead, while it hangs, and in the second in which it begins to:
    the kill file, and experimentctl on the state directory."""
    for name, begin in (("dead", RedisServer.kill), ("hanging", RedisServer.pause), ("beginning to hang", None)):
        with fleet_of(document(BUTTON), count=1) as (fleet, server):
            (edge,) = fleet
            workers = workers_of(fleet)
            each = contextlib.nullcontext if begin else lambda: hangs(server)
            if begin:
                begin(server)
            print(f"kill on one edge, store {name}: by the kill file {percentiles(file_kills(edge, workers, 30, each))}; "
                  f"by experimentctl --state {percentiles(state_kills(edge, workers, 30, each))}")
            if begin:
                server.resume() if name == "hanging" else server.start()


@contextlib.contextmanager
def hangs(server):
    """From up to a second before, so that the leader waits for a reply or not."""
    time.sleep(1.5)  # it has found the server again
    server.pause()
    time.sleep(random.random())
    yield
    server.resume()


def file_kills(edge, workers, count, each):
    times = []
    for _ in range(count):
        with each():
            began = time.monotonic()
            edge.kill_file.write_text("button\n")
            times.append(until(workers, lambda variant, reason, *_: reason == "killed") - began)
        edge.kill_file.write_text("")
        resume(edge, workers)
    return times


def state_kills(edge, workers, count, each):
    times = []
    for _ in range(count):
        with each():
            began = time.monotonic()
            tool("kill", "button", "--state", edge.state, "--reason", "bench")
            times.append(until(workers, lambda variant, reason, *_: reason == "killed") - began)
        resume(edge, workers)
    return times


def resume(edge, workers):
    tool("resume", "button", "--state", edge.state, "--reason", "bench")
    until(workers, lambda variant, *_: variant)
    time.sleep(random.random())  # a kill falls anywhere between two looks


def tool(*args):
    subprocess.run([str(CTL), *map(str, args)], check=True, capture_output=True, timeout=30)


def allocation():
    """From the store's change to the last edge's first page of the new epoch."""
    adaptive = experiment("button", allocation={"policy": "thompson", "goal": "purchase", "min_epoch": "1s", "baseline": 0,
                                                "warm_up": {"exposures": 10, "successes": 0, "for": "0s"}})
    with fleet_of(document(adaptive)) as (fleet, server):
        for edge in fleet:
            edge.wait(lambda: Browser(edge.port).go("/").text.split("|")[0])
        stop = threading.Event()

        def visit(edge):
            while not stop.is_set():
                browser = Browser(edge.port)
                if browser.go("/").text.startswith("green"):
                    browser.go("/thanks")
                time.sleep(0.005)
        threads = [threading.Thread(target=visit, args=(edge,)) for edge in fleet]
        for thread in threads:
            thread.start()
        client, known, ages, end = server.client(), None, [], time.monotonic() + 40
        try:
            while time.monotonic() < end:
                epoch = runtime(client, "button")["epochs"][-1]["id"]
                if epoch == known:
                    time.sleep(0.001)
                    continue
                began, fresh = time.monotonic(), known is not None
                known = epoch
                for edge in fleet:
                    while int(Browser(edge.port).go("/").text.split("|")[2]) < epoch:
                        pass
                if fresh:
                    ages.append(time.monotonic() - began)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        print(f"allocation, from publication to the last of 3 edges: {percentiles(ages)}")


def steady():
    """Per edge: round trips, commands and bytes a second at the store, with 5 experiments and 100 rewards a second."""
    experiments = [experiment(f"e{n}", allocation={"policy": "thompson", "goal": "purchase"} if n < 2 else None)
                   for n in range(5)]
    with fleet_of(document(*experiments), count=1) as (fleet, server):
        (edge,) = fleet
        edge.wait(lambda: "split" in get(edge.port, "/metrics").text or True)
        client, stop, rewards = server.client(), threading.Event(), [0]

        def visit():
            while not stop.is_set():
                began = time.monotonic()
                browser = Browser(edge.port)
                browser.go("/")
                browser.go("/thanks")
                rewards[0] += 5
                time.sleep(max(0, 0.05 - (time.monotonic() - began)))
        thread = threading.Thread(target=visit)
        thread.start()
        time.sleep(5)
        before, at, seen = client.info("stats"), time.monotonic(), rewards[0]
        writes = socket_writes(client)
        time.sleep(60)
        after, seconds = client.info("stats"), time.monotonic() - at
        trips = (socket_writes(client) - writes) / seconds
        rate = {name: (after[name] - before[name]) / seconds
                for name in ("total_commands_processed", "total_net_input_bytes", "total_net_output_bytes")}
        stop.set()
        thread.join()
        print(f"steady state of one edge that allocates, 5 experiments (2 adaptive), {(rewards[0] - seen) / seconds:.0f} "
              f"rewards a second: {rate['total_commands_processed']:.2f} commands a second in {trips:.2f} round trips, "
              f"{rate['total_net_input_bytes']:.0f} bytes in and {rate['total_net_output_bytes']:.0f} out a second")


def socket_writes(client):
    """Reads of the server's sockets, which are as many as there were pipelines that fit one segment."""
    return client.info("stats")["total_reads_processed"]


def p99(edge, seconds=3):
    out = subprocess.run(["wrk", "-t1", "-c8", f"-d{seconds}s", "--latency", "-H", "X-Account: u1",
                          f"http://127.0.0.1:{edge.port}/news"], capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in out and "Socket errors" not in out, out
    value = next(line.split()[1] for line in out.splitlines() if line.strip().startswith("99%"))
    number = float(value.rstrip("mus"))
    return number * (1000 if value.endswith("ms") else 1 if value.endswith("us") else 1e6)


def faults():
    """p99 of requests while the store has each of its faults, beside healthy runs that alternate with them."""
    with making_edges() as edges:
        site = Site(edges, workers=1)
        try:
            site.wait(time.monotonic() + 20, site.news_everywhere, "every worker enrolls")
            p99(site.edge)
            healthy, sick = [], {name: [] for name in FAULTS}
            for _ in range(3):
                for name, fault in FAULTS.items():
                    healthy.append(p99(site.edge))
                    with fault(site):
                        time.sleep(0.5)
                        sick[name].append(p99(site.edge))
                    site.recover(time.monotonic(), 20, [{}, {}])
        finally:
            site.end()
    print(f"p99 of a request, healthy: {min(healthy):.0f} to {max(healthy):.0f} us, median "
          f"{statistics.median(healthy):.0f}, {len(healthy)} runs")
    for name, values in sick.items():
        print(f"  store {name.replace('_', ' '):<20} {min(values):.0f} to {max(values):.0f} us, median "
              f"{statistics.median(values):.0f}")


PARTS = {"kill": kill, "push-lost": push_lost, "local": local, "allocation": allocation, "steady": steady, "faults": faults}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    for name in parser.parse_args().parts or PARTS:
        PARTS[name]()


if __name__ == "__main__":
    os.umask(0o022)
    main()
