"""The metrics of many experiments: in pieces, as fast as a client reads, whole whatever happens meanwhile."""
import collections
import contextlib
import gzip
import http.client
import pathlib
import re
import resource
import signal
import socket
import subprocess
import threading

import pytest
from lib import store
from lib.client import get
from lib.edge import document, experiment, is_running
from lib.exposition import check_form, parse, promtool

# A small buffer in the kernel, so that a client that does not read is felt.
CONF = """
    gzip_types text/plain;
    server {
        listen 127.0.0.1:{port};
        location / { return 200 "page"; }
        location = /all { experiment all; experiment_cohort_max 100000; return 200 "all"; }
        location = /e { experiment_beacon; }
        location = /status { stub_status; }
    }
    server {
        listen 127.0.0.1:{port2} sndbuf=32k;
        listen 127.0.0.1:{port3} sndbuf=32k http2;
        location = /metrics { experiment_metrics; }
        location = /gzip { gzip on; experiment_metrics; }
        location = /paced { limit_rate 10m; experiment_metrics; }
        location = /impatient { send_timeout 300ms; experiment_metrics; }
        location = /collected { postpone_output 1m; experiment all; experiment_metrics; }
        location = /replaced {
            sub_filter nginx_experiment_ other_; sub_filter_once off; sub_filter_types text/plain;
            experiment_metrics;
        }
        location = /twice {
            ssi on;
            return 200 '<!--#include virtual="/metrics" --><!--#include virtual="/metrics" -->end';
        }
    }
"""
GOALS = [{"key": "purchase"}, {"key": "signup"}, {"key": "revenue", "kind": "value", "max": 500}]
VARIANTS = ["control", "b", "c", "d"]


def many(count):
    """Rendered at the edge, as all of them apply at once and would make too many cohorts."""
    return document(*(experiment(f"e-{n}", VARIANTS, goals=GOALS, unit="account", render="edge")
                      for n in range(count)))


def make(edges, count, **options):
    edge = edges(CONF, many(count), workers=1, size="64m", **options)
    edge.wait(lambda: f'epoch{{experiment="e-{count - 1}"}}' in get(edge.port2, "/metrics").text)
    return edge


class Reader:
    """A client that reads when it is told to."""

    def __init__(self, port, path="/metrics", version="1.1", headers=""):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(f"GET {path} HTTP/{version}\r\nHost: edge\r\nConnection: close\r\n{headers}\r\n"
                            .encode())
        self.answer = None
        self.body = b""

    def read(self, count):
        if self.answer is None:
            self.answer = http.client.HTTPResponse(self.socket)
            self.answer.begin()
        self.body += self.answer.read(count)
        return self

    def rest(self):
        """The whole text; an answer that was cut off raises IncompleteRead."""
        self.read(None)
        self.close()
        return self.body.decode()

    def close(self):
        if self.answer is not None:
            self.answer.close()
        self.socket.close()


@contextlib.contextmanager
def readers(count, *args, **kwargs):
    made = [Reader(*args, **kwargs) for _ in range(count)]
    try:
        yield made
    finally:
        for reader in made:
            reader.close()


def series(text):
    """What is there, without its values; reasons of decisions come with the first request."""
    return [line.rpartition(" ")[0] for line in text.splitlines() if "_decisions_total{" not in line]


def memory(pid):
    """Bytes of its own that the process has."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024


def is_sanitized(edge):
    """AddressSanitizer keeps what was freed for a while, and takes terabytes of addresses."""
    return "libasan" in pathlib.Path(f"/proc/{edge.pid}/maps").read_text()


def others(edge):
    """Connections besides the one that asks."""
    return int(re.search(r"Active connections: (\d+)", get(edge.port, "/status").text)[1]) - 1


def test_a_thousand_experiments_are_the_stores_truth(edges):
    """Each visitor is exposed to all of them; some reach goals."""
    edge = make(edges, 1000)
    people = 12
    for n in range(people):
        account = {"X-Account": f"account-{n}"}
        assert get(edge.port, "/all", {**account, "Accept": "text/html"}).text == "all"
        if n % 3 == 0:
            body = '[{"goal":"purchase"},{"goal":"revenue","value":19.99}]'
            get(edge.port, "/e", {**account, "Content-Type": "application/json"}, method="POST", body=body)
    answer = get(edge.port2, "/metrics", timeout=30)
    assert answer.header("Transfer-Encoding") == "chunked" and len(answer.body) > 10_000_000
    families = parse(answer.text)
    check_form(families)
    promtool(answer.body)
    per_row = {"allocation_ratio", "exposures_total", "sent_bytes_total", "upstream_failures_total"}
    rows = {(f"e-{n}", variant) for n in range(1000) for variant in VARIANTS}
    for name, (kind, samples) in families.items():
        there = collections.Counter((name, *(v for k, v in labels if k in ("experiment", "variant")))
                                    for name, labels in samples)
        if name.removeprefix("nginx_experiment_") in per_row:
            assert there == {(name, *row): 1 for row in rows}
        elif kind == "histogram":
            assert there == {(name + part, *row): 12 if part == "_bucket" else 1
                             for part in ("_bucket", "_sum", "_count") for row in rows}
        elif name == "nginx_experiment_rewards_total":
            assert there == {(name, *row): len(GOALS) for row in rows}
    now = {(name.removeprefix("nginx_experiment_"), *(v for _, v in labels)): value
           for _, samples in families.values() for (name, labels), value in samples.items()}
    edge.stop()
    for key in [f"e-{n}" for n in range(0, 1000, 37)]:
        stored = store.totals(edge, key)
        assert sum(row["n"] for row in stored.values()) == people
        for variant in VARIANTS:
            row = stored[variant]
            assert now["exposures_total", key, variant] == row["n"]
            for goal in ("purchase", "signup", "revenue"):
                assert now["rewards_total", key, variant, goal] == row[goal][0]
            money = now["reward_value_total", key, variant, "revenue"]
            assert money == pytest.approx(row["revenue"][1] / 100)
        assert sum(row["purchase"][0] for row in stored.values()) == people / 3


def test_who_does_not_read_costs_nobody_anything(edges):
    """Slow readers hold a buffer each, whatever the page's size; everybody else is served meanwhile."""
    edge = make(edges, 300)
    (pid,) = edge.worker_pids()
    whole = get(edge.port2, "/metrics").text
    with readers(10, edge.port2) as slow:
        before = memory(pid)
        for _ in range(20):
            for reader in slow:
                reader.read(1024)
            assert get(edge.port, "/").text == "page"
        assert series(get(edge.port2, "/metrics").text) == series(whole)
        assert len(whole) > 50 * len(slow[0].body)
        assert is_sanitized(edge) or memory(pid) - before < 2 << 20
        for reader in slow[:2]:
            assert series(reader.rest()) == series(whole)


def test_ten_at_once(edges):
    edge = make(edges, 100)
    pages = []
    threads = [threading.Thread(target=lambda: pages.append(get(edge.port2, "/metrics").text))
               for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pages) == 10 and len({tuple(series(page)) for page in pages}) == 1
    check_form(parse(pages[0]))


def test_a_client_that_leaves_takes_everything_along(edges):
    """Closed, reset, or silent for longer than send_timeout."""
    edge = make(edges, 300)
    (pid,) = edge.worker_pids()
    get(edge.port2, "/metrics")
    edge.wait(lambda: others(edge) == 0)
    before = memory(pid)
    for _ in range(5):
        with readers(10, edge.port2) as leaving:
            edge.wait(lambda: others(edge) == 10)
            for reader in leaving[:5]:
                reader.read(100_000)
            for reader in leaving[::2]:
                reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        edge.wait(lambda: others(edge) == 0)
    with readers(3, edge.port2, "/impatient") as silent:
        edge.wait(lambda: others(edge) == 3)
        edge.wait(lambda: others(edge) == 0)
        for reader in silent:
            with pytest.raises(http.client.IncompleteRead):
                reader.rest()
    assert is_sanitized(edge) or memory(pid) - before < 2 << 20
    check_form(parse(get(edge.port2, "/metrics").text))


@pytest.mark.parametrize("path", ["/metrics", "/paced", "/collected"])
def test_ways_to_ask(edges, path):
    """HTTP/1.0, HTTP/1.1 on a kept connection with HEAD between, HTTP/2."""
    edge = make(edges, 100)
    whole = get(edge.port2, "/metrics")
    old = Reader(edge.port2, path, "1.0", "Connection: keep-alive\r\n")
    assert series(old.rest()) == series(whole.text)
    assert old.answer.getheader("Transfer-Encoding") is None and old.answer.getheader("Connection") == "close"
    connection = http.client.HTTPConnection("127.0.0.1", edge.port2, timeout=20)
    for method in ("GET", "HEAD", "HEAD", "GET"):
        connection.request(method, path)
        answer = connection.getresponse()
        assert answer.status == 200 and answer.getheader("Content-Type") == whole.header("Content-Type")
        text = answer.read().decode()
        assert series(text) == (series(whole.text) if method == "GET" else [])
    connection.close()
    done = subprocess.run(["curl", "-s", "--http2-prior-knowledge", f"http://127.0.0.1:{edge.port3}{path}"],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and series(done.stdout) == series(whole.text)


def test_filters(edges):
    """gzip and sub_filter make other buffers of ours; subrequests wait for their turn."""
    edge = make(edges, 300)
    whole = get(edge.port2, "/metrics").text
    packed = get(edge.port2, "/gzip", {"Accept-Encoding": "gzip"})
    assert packed.header("Content-Encoding") == "gzip" and len(packed.body) < len(whole) / 10
    assert series(gzip.decompress(packed.body).decode()) == series(whole)
    with readers(1, edge.port2, "/gzip", headers="Accept-Encoding: gzip\r\n") as (slow,):
        slow.read(1024)
        assert get(edge.port, "/").text == "page"
        assert series(gzip.decompress(slow.read(None).body).decode()) == series(whole)
    other = get(edge.port2, "/replaced").text
    assert series(other) == series(whole.replace("nginx_experiment_", "other_"))
    for version in ("1.0", "1.1"):
        twice = Reader(edge.port2, "/twice", version).rest()
        assert twice.endswith("# EOF\nend")
        first, second, _ = twice.split("# EOF\n")
        assert series(first) == series(second) == series(whole)[:-1]


def test_a_page_outlives_a_reload(edges):
    edge = make(edges, 300)
    (old,) = edge.worker_pids()
    whole = get(edge.port2, "/metrics").text
    with readers(3, edge.port2) as slow:
        for reader in slow:
            reader.read(50_000)
        edge.reload()
        assert is_running(old)
        for reader in slow:
            text = reader.rest()
            assert series(text) == series(whole)
    check_form(parse(text))
    edge.wait(lambda: not is_running(old))


def test_a_quick_stop_waits_for_nobody(edges):
    edge = make(edges, 300)
    with readers(3, edge.port2) as slow:
        for reader in slow:
            reader.read(50_000)
        edge.stop(signal.SIGTERM)
        for reader in slow:
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                reader.rest()


def test_a_page_ends_with_the_definitions_it_began_with(edges):
    """Meanwhile there are two others; the old ones' space in the zone is used again behind the page."""
    edge = make(edges, 300)
    whole = get(edge.port2, "/metrics").text
    with readers(2, edge.port2) as (slow, leaving):
        slow.read(50_000)
        leaving.read(50_000)
        edge.define(document(experiment("button"), experiment("hero", ("a", "b"))))
        edge.wait(lambda: edge.metrics(edge.port2)["nginx_experiment_experiments"] == 2)
        leaving.close()
        text = slow.rest()
    assert series(text) == series(whole)
    check_form(parse(text))
    held = edge.metrics(edge.port2)["nginx_experiment_zone_used_bytes"]
    edge.wait(lambda: edge.metrics(edge.port2)["nginx_experiment_zone_used_bytes"] < held / 2, 20)


def test_without_memory_the_page_fails_and_nothing_else(edges, monkeypatch):
    """A second start may take little more than the first one took; metrics that nobody reads use that up."""
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    edge = make(edges, 300, allowed=r"\[emerg\] .* (malloc|posix_memalign)\(.*failed \(12")
    if is_sanitized(edge):
        pytest.skip("needs a limit of addresses")
    whole = get(edge.port2, "/metrics").text
    status = pathlib.Path(f"/proc/{edge.worker_pids()[0]}/status").read_text()
    limit = (int(re.search(r"VmPeak:\s+(\d+) kB", status)[1]) << 10) + (4 << 20)
    edge.stop()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        edge.start()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    edge.wait(lambda: series(get(edge.port2, "/metrics").text) == series(whole))
    pids = edge.worker_pids()
    with contextlib.ExitStack() as held:
        readers = []

        def one_more():
            readers.append(held.enter_context(contextlib.closing(Reader(edge.port2))))
            try:
                return readers[-1].read(1).answer.status == 500
            except (http.client.HTTPException, OSError):
                return True  # not even memory for a request
        edge.wait(one_more, 20, 0)
        assert len(readers) > 5
        for reader in readers[:3]:
            assert series(reader.rest()) == series(whole)
        assert get(edge.port, "/").text == "page"
    edge.wait(lambda: series(get(edge.port2, "/metrics").text) == series(whole))
    assert edge.worker_pids() == pids and edge.lines("failed .12")
