"""The connections of an edge to its Redis: made, kept, lost and made again, while requests never notice."""
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import threading
import time

import pytest
import xxhash
from lib import fault_proxy
from lib.authority import Authority
from lib.client import get
from lib.dns import NameServer
from lib.edge import ZONE, document, experiment, is_running
from lib.fault_proxy import FaultProxy
from lib.redis_library import CONTROL, Library
from lib.redis_server import RedisServer

CONF = """
    %s
    server {
        listen 127.0.0.1:{port};
        location / { experiment all; return 200 "$variant_one|$variant_two|$variant_three|$variant_four"; }
    }
"""
NAMES = ["one", "two", "three", "four"]
SECRET, OTHER_SECRET = "tr0ub4dor-and-3", "correct-horse-4"
KEYS = "5b" * 32 + "\n"


@pytest.fixture(scope="module")
def authorities():
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(__import__("tempfile").TemporaryDirectory(prefix="experiment-ca-")))
        folder.chmod(0o755)
        yield Authority(folder / "ours"), Authority(folder / "others", "other")


class Published:
    """Document number n has the first n experiments."""

    def __init__(self, db):
        self.db, self.number = db, 0

    def __call__(self, number=None):
        self.number = number or self.number + 1
        library = Library(self.db, "function")  # the server may have been started anew
        text = json.dumps(document(*(experiment(key, ("v",), goals=[], unit="account") for key in NAMES[:self.number])))
        meta = json.dumps({"version": self.number, "digest": xxhash.xxh3_128_hexdigest(text), "at_s": 0, "by": "test"})
        for _ in range(100):
            now = self.db.hget(CONTROL, "v") or b"0"
            answer = library.write(CONTROL, now, random.getrandbits(20), "experiment:push", "d", meta, "doc", text)
            if answer[0] == 1:
                return self
        raise AssertionError("others write all the time")


def serves(edge):
    """How many experiments the edge knows."""
    return get(edge.port, "/", {"X-Account": "someone"}).text.split("|").count("v")


def wait_served(edge, number, seconds=5):
    edge.wait(lambda: serves(edge) == number, seconds=seconds)


@pytest.fixture
def stores(edges):
    """Makes edges at a store: stores(url, options, ...)."""
    def make(url, options="", http="", files=None, zone=ZONE, start=True, **more):
        line = f"    experiment_store {url} {options};\n    experiment_keys {{folder}}/keys;\n"
        edge = edges(CONF % http, zone=zone + line, start=False, **more)
        for name, (text, mode) in {"keys": (KEYS, 0o644), **(files or {})}.items():
            (edge.folder / name).write_text(text)
            (edge.folder / name).chmod(mode)
        if start:
            edge.start()
        return edge
    return make


@pytest.fixture
def server():
    with RedisServer() as started:
        yield started


@pytest.fixture
def publish(server):
    return Published(server.client())


class Traffic:
    """Requests one after the other, meanwhile: all are answered, and soon."""

    def __init__(self, edge):
        self.edge, self.slow, self.bad, self.count, self.ended = edge, [], [], 0, False
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def run(self):
        while not self.ended:
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
            assert self.count > 5 and not self.bad and len(self.slow) <= 1, (self.count, self.bad, self.slow)


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


# --- ways there ---
def test_by_tcp_and_a_push_is_faster_than_the_poll(stores, server, publish):
    edge = stores(f"redis://{server.address}")
    took = []
    for number in range(1, 5):
        begun = time.monotonic()
        publish()
        wait_served(edge, number)
        took.append(time.monotonic() - begun)
        edge.wait(lambda: any(c["cmd"] == "subscribe" for c in clients(server)))
        time.sleep(0.3)  # not with the poll that follows the push before
    assert min(took[1:]) < 0.5, took
    assert not edge.lines(r"\[error\]| seen when ")


def test_by_a_unix_socket(stores, server, publish):
    publish()
    os.chmod(server.socket, 0o777)
    os.chmod(server.folder, 0o755)
    edge = stores(f"unix:{server.socket}")
    wait_served(edge, 1)
    publish()
    wait_served(edge, 2)


def test_only_the_worker_that_leads_is_connected(stores, server, publish):
    publish()
    edge = stores(f"redis://{server.address}", workers=4)
    wait_served(edge, 1)
    edge.wait(lambda: sorted(connections(edge, server.port).values())[-1:] == [2])
    counts = connections(edge, server.port)
    assert sorted(counts.values()) == [0] * (len(counts) - 1) + [2] and len(counts) >= 4
    assert len(clients(server)) == 2


# --- names ---
def test_names_are_resolved_at_each_connection(stores, server, publish):
    publish()
    with NameServer(store_test="127.0.0.1") as names:
        edge = stores(f"redis://store.test:{server.port}", http=f"resolver 127.0.0.1:{names.port} valid=1s;")
        wait_served(edge, 1)
        asked = names.asked.count("store.test")
        assert asked
        names.names["store.test"] = "127.0.0.2"  # where nobody listens
        server.stop()
        edge.wait_log(r"store.test:\d+: connect\(\) to 127.0.0.2:\d+ failed", seconds=10)
        names.names["store.test"] = "127.0.0.1"
        server.start()
        publish(2)
        wait_served(edge, 2, seconds=10)
        assert names.asked.count("store.test") > asked


def test_a_name_that_nobody_knows_is_said(stores, server):
    with NameServer() as names:
        edge = stores("redis://store.test", http=f"resolver 127.0.0.1:{names.port};")
        edge.wait_log(r"store.test:6379: the name cannot be resolved: Host not found")


def test_a_name_server_that_is_silent_holds_nobody_up(stores, server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        edge = stores("redis://store.test", http=f"resolver 127.0.0.1:{silent.getsockname()[1]};")
        with Traffic(edge):
            edge.wait_log(r"store.test:6379: (no address of the name within 500 ms|.*timed out)")
        begun = time.monotonic()
        edge.stop()
        assert time.monotonic() - begun < 3


# --- TLS ---
def tls_server(authorities, *names, days=30, **options):
    certificate, key = authorities[0].server(*names, days=days)
    return RedisServer(tls=(certificate, key, authorities[0].ca), **options)


def test_over_tls_by_address_and_by_name(stores, authorities):
    with tls_server(authorities, "IP:127.0.0.1", "DNS:redis.internal") as server:
        publish = Published(server.client())()
        for options in ("", "name=redis.internal"):
            edge = stores(f"rediss://127.0.0.1:{server.tls_port}", f"ca={authorities[0].ca} {options}")
            wait_served(edge, 1)
            edge.wait(lambda: connections(edge, server.tls_port))
            assert not any(connections(edge, server.port).values())
            assert not edge.lines(r"\[error\]| seen when ")
            edge.stop()


def test_over_tls_with_our_certificate(stores, authorities):
    with tls_server(authorities, "IP:127.0.0.1", tls_auth_clients="yes") as server:
        Published(server.client())()
        certificate, key = authorities[0].client()
        edge = stores(f"rediss://127.0.0.1:{server.tls_port}",
                      f"ca={authorities[0].ca} certificate={certificate} key={key}")
        wait_served(edge, 1)
        bare = stores(f"rediss://127.0.0.1:{server.tls_port}", f"ca={authorities[0].ca}")
        bare.wait_log(r"127.0.0.1:\d+: .*certificate required")


@pytest.mark.parametrize("names, days, trusted, options, reason", [
    (["IP:127.0.0.1"], 30, 1, "", "self.signed certificate in certificate chain"),
    (["IP:127.0.0.1"], 30, None, "", "self.signed certificate in certificate chain"),
    (["IP:127.0.0.1"], -1, 0, "", "certificate has expired"),
    (["DNS:redis.internal"], 30, 0, "", 'it is not one of "127.0.0.1"'),
    (["DNS:127.0.0.1"], 30, 0, "", 'it is not one of "127.0.0.1"'),
    (["IP:127.0.0.1"], 30, 0, "name=redis.internal", 'it is not one of "redis.internal"'),
    (["DNS:*.internal"], 30, 0, "name=a.redis.internal", 'it is not one of "a.redis.internal"'),
], ids=["wrong-ca", "system-ca", "expired", "other-name", "address-as-name", "wrong-name", "wildcard"])
def test_a_server_that_cannot_prove_itself_is_told_nothing(stores, authorities, names, days, trusted, options, reason):
    with tls_server(authorities, *names, days=days) as server:
        publish = Published(server.client())()
        server.client().config_resetstat()
        ca = "" if trusted is None else f"ca={authorities[trusted].ca}"
        edge = stores(f"rediss://127.0.0.1:{server.tls_port}", f"{ca} {options} password_file=password",
                      files={"password": (SECRET, 0o644)})
        with Traffic(edge):
            edge.wait_log(r"127.0.0.1:\d+: its certificate is refused: " + reason)
            time.sleep(1)
        assert serves(edge) == 0
        stats = server.client().info("commandstats")
        assert not {"cmdstat_auth", "cmdstat_fcall_ro", "cmdstat_client|setname"} & set(stats)


def test_a_plaintext_port_is_never_spoken_to_in_plain_text(stores, authorities):
    said = []
    with socket.create_server(("127.0.0.1", 0)) as plain:
        def serve():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = plain.accept()
                    said.append(client.recv(4096))
                    client.sendall(b"-ERR Protocol error: unbalanced quotes in request\r\n")
                    client.close()

        threading.Thread(target=serve, daemon=True).start()
        edge = stores(f"rediss://127.0.0.1:{plain.getsockname()[1]}",
                      f"ca={authorities[0].ca} user=edge password_file=password", files={"password": (SECRET, 0o644)})
        edge.wait_log(r"127.0.0.1:\d+: SSL_do_handshake\(\) failed \(SSL: .*wrong version number")
        time.sleep(1.5)
    assert said and all(data[:2] == b"\x16\x03" for data in said)  # TLS handshake records
    assert len(said) <= 4  # two connections, tried again after 5 seconds
    assert not any(b"AUTH" in data or SECRET.encode() in data for data in said)


# --- passwords ---
def acl(password):
    return {"user": [f"edge on >{password} ~* &* +@all", "default on nopass ~* &* +@all"]}


def test_a_password_that_is_wrong_and_then_right(stores):
    with RedisServer(**acl(SECRET)) as server:
        publish = Published(server.client())()
        edge = stores(f"redis://{server.address}", "user=edge password_file=password",
                      files={"password": (OTHER_SECRET + "\n", 0o644)})
        with Traffic(edge):
            edge.wait_log(r"127.0.0.1:\d+: user or password is wrong.*WRONGPASS")
            assert serves(edge) == 0
            server.client().execute_command("ACL", "SETUSER", "edge", "resetpass", f">{OTHER_SECRET}")
            wait_served(edge, 1, seconds=10)
        assert OTHER_SECRET not in edge.text() and len(edge.lines("WRONGPASS")) <= 2


def test_a_password_that_changes_is_read_again_where_workers_may(stores):
    with RedisServer(**acl(SECRET)) as server:
        publish = Published(server.client())()
        edge = stores(f"redis://{server.address}", "user=edge password_file=password",
                      files={"password": (SECRET + "\n", 0o644)})
        wait_served(edge, 1)
        server.client().execute_command("ACL", "SETUSER", "edge", "resetpass", f">{OTHER_SECRET}")
        server.client().execute_command("CLIENT", "KILL", "USER", "edge")
        edge.wait_log("WRONGPASS")
        (edge.folder / "password").write_text(OTHER_SECRET + "\n")
        publish()
        wait_served(edge, 2, seconds=12)
        assert SECRET not in edge.text() and OTHER_SECRET not in edge.text()


def test_a_password_that_only_root_reads_changes_with_a_reload(stores):
    if os.getuid() != 0:
        pytest.skip("workers read what this user may read")
    with RedisServer(**acl(SECRET)) as server:
        publish = Published(server.client())()
        edge = stores(f"redis://{server.address}", "user=edge password_file=password",
                      files={"password": (SECRET + "\n", 0o600)})
        wait_served(edge, 1)
        server.client().execute_command("ACL", "SETUSER", "edge", "resetpass", f">{OTHER_SECRET}")
        server.client().execute_command("CLIENT", "KILL", "USER", "edge")
        (edge.folder / "password").write_text(OTHER_SECRET + "\n")
        edge.wait_log("WRONGPASS")
        edge.reload()
        publish()
        wait_served(edge, 2, seconds=12)


def test_a_user_that_may_not_subscribe_is_told_once_and_polls(stores):
    with RedisServer(user=[f"edge on >{SECRET} ~* resetchannels +@all -subscribe",
                           "default on nopass ~* &* +@all"]) as server:
        publish = Published(server.client())()
        edge = stores(f"redis://{server.address}", "user=edge password_file=password",
                      files={"password": (SECRET, 0o644)})
        wait_served(edge, 1)
        edge.wait_log("changes of the store are seen when it is looked at, not when they are made: .*NOPERM")
        publish()
        wait_served(edge, 2)
        time.sleep(6)
        assert len(edge.lines("changes of the store are seen when")) == 1


def test_a_password_that_no_server_wants_is_fine(stores, server, publish):
    publish()
    edge = stores(f"redis://{server.address}", "password_file=password", files={"password": (SECRET, 0o644)})
    wait_served(edge, 1)


# --- servers that go ---
def test_a_server_that_hangs_holds_up_one_step(stores, server, publish):
    publish()
    edge = stores(f"redis://{server.address}")
    wait_served(edge, 1)
    server.pause()
    with Traffic(edge):
        edge.wait_log("no reply within 1000 ms")
        begun = time.monotonic()
        edge.kill_file.write_text("one\n")  # the leader goes on with everything else
        edge.wait(lambda: serves(edge) == 0, seconds=3)
        assert time.monotonic() - begun < 1.5
        time.sleep(2)
        server.resume()
        publish()
        wait_served(edge, 1, seconds=10)  # "two"; "one" is killed
    assert len(edge.lines(r"\[error\]")) <= 6


def test_a_server_that_dies_and_comes_back_empty(stores, server, publish):
    publish()
    edge = stores(f"redis://{server.address}")
    wait_served(edge, 1)
    server.kill()
    with Traffic(edge):
        edge.wait_log("Connection refused")
        time.sleep(1)
        assert serves(edge) == 1
        server.start()
        back = time.monotonic()
        edge.wait(lambda: server.client().hget(CONTROL, "d"), seconds=10)  # given back by the edge
        assert time.monotonic() - back < 4
        publish()
        wait_served(edge, 2, seconds=10)
    assert edge.lines("store: back after")


def test_an_edge_that_starts_without_its_server(stores, server, publish):
    publish()
    server.stop()
    edge = stores(f"redis://{server.address}", start=False)
    begun = time.monotonic()
    edge.start()
    assert time.monotonic() - begun < 3
    with Traffic(edge):
        edge.wait_log("Connection refused")
        server.start()
        publish(1)
        wait_served(edge, 1, seconds=10)


# --- what networks and broken servers do ---
@pytest.fixture
def proxied(stores, server, publish):
    """An edge that goes through a proxy, and serves one experiment."""
    publish()
    with FaultProxy(server.port) as proxy:
        edge = stores(f"redis://{proxy.address}", level="notice")
        wait_served(edge, 1)
        yield edge, proxy, publish


def harm(proxy, fault, seconds=1.5):
    proxy.fault = fault
    proxy.drop()
    time.sleep(seconds)


def heal(edge, proxy, publish):
    proxy.fault = fault_proxy.whole
    proxy.drop()
    publish()
    wait_served(edge, publish.number, seconds=10)


def resident_kb(edge):
    return max(int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1))
               for pid in edge.worker_pids())


@pytest.mark.parametrize("fault", [fault_proxy.delay(0.05), fault_proxy.split], ids=["slow", "byte-by-byte"])
def test_slow_ways_still_lead_there(proxied, fault):
    edge, proxy, publish = proxied
    with Traffic(edge):
        proxy.fault = fault
        proxy.drop()
        publish()
        wait_served(edge, 2, seconds=10)
    assert not edge.lines("not understood")


DEEP = b"*1\r\n" * 100000
BROKEN = {
    "stall": (fault_proxy.stall, "no answer to the greeting within 500 ms"),
    "garbage": (fault_proxy.replace(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not understood: "),
    "zeros": (fault_proxy.replace(bytes(10000)), "not understood: "),
    "elements": (fault_proxy.replace(b"+OK\r\n+PONG\r\n*2147483647\r\n"), "not understood: "),
    "elements-64": (fault_proxy.replace(b"+OK\r\n+PONG\r\n*9223372036854775807\r\n"), "not understood: "),
    "depth": (fault_proxy.replace(b"+OK\r\n+PONG\r\n" + DEEP), "not understood: "),
    "negative": (fault_proxy.replace(b"+OK\r\n+PONG\r\n$-9\r\n"), "not understood: "),
    "unasked": (fault_proxy.replace(b"+OK\r\n+PONG\r\n+more\r\n" * 3), "a reply that nobody asked for|not understood|"
                "not what a subscriber is told"),
    "integer": (fault_proxy.replace(b":1\r\n:2\r\n:3\r\n"), "the server refused the connection"),
    "full": (fault_proxy.cut(0), "the server closed the connection"),
    "busy": (fault_proxy.replace(b"-ERR max number of clients reached\r\n"), "max number of clients reached"),
    "end": (fault_proxy.cut(3), "the server closed the connection|Connection reset by peer"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_answers_end_the_connection_and_nothing_else(proxied, name):
    edge, proxy, publish = proxied
    fault, reason = BROKEN[name]
    with Traffic(edge):
        harm(proxy, fault)
        assert serves(edge) == 1
        assert edge.lines(reason), edge.text()[-2000:]
        heal(edge, proxy, publish)
    assert edge.handed_on or resident_kb(edge) < 200_000


def test_gigantic_replies_are_given_up(proxied):
    edge, proxy, publish = proxied
    before = resident_kb(edge)
    with Traffic(edge):
        for head in (b"+OK\r\n+PONG\r\n$536870912\r\n", b"+OK\r\n+PONG\r\n*199999\r\n", b"+OK\r\n+PONG\r\n+"):
            piece = b"$1000\r\n" + b"x" * 1000 + b"\r\n" if b"*" in head else b"x" * 65536
            harm(proxy, fault_proxy.flood(head, piece, 100 << 20), 2)
            assert serves(edge) == publish.number
        heal(edge, proxy, publish)
    # Of what a reply may have, 32 MB. A sanitizer keeps what was freed.
    assert edge.handed_on or resident_kb(edge) - before < 150_000


def test_connections_that_end_at_any_byte(proxied, soak):
    edge, proxy, publish = proxied
    with Traffic(edge):
        for at in range(0, 120 if soak else 40, 1 if soak else 3):
            harm(proxy, fault_proxy.cut(at), 0.12)
        harm(proxy, fault_proxy.cut(1000), 0.3)
        assert serves(edge) == 1
        heal(edge, proxy, publish)


def test_a_server_that_hangs_up_at_once_is_not_pestered(proxied):
    edge, proxy, publish = proxied
    proxy.refuses = True
    proxy.drop()
    before = proxy.made
    time.sleep(4)
    made = proxy.made - before
    assert 4 <= made <= 30, made  # two connections, about two attempts a second each
    proxy.refuses = False
    heal(edge, proxy, publish)


# --- processes that go ---
def test_reloads_leave_two_connections_and_no_trace(stores, server, publish):
    publish()
    edge = stores(f"redis://{server.address}")
    wait_served(edge, 1)
    with Traffic(edge):
        for _ in range(3):
            edge.reload()
            time.sleep(0.3)
    edge.wait(lambda: len(clients(server)) == 2)
    publish()
    wait_served(edge, 2)


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM])
@pytest.mark.parametrize("paused", [False, True], ids=["answering", "hanging"])
def test_the_end_is_quick_and_clean(stores, server, publish, number, paused):
    publish()
    edge = stores(f"redis://{server.address}")
    wait_served(edge, 1)
    edge.wait(lambda: len(clients(server)) == 2)
    if paused:
        server.pause()
        time.sleep(random.uniform(0, 1.5))
    begun = time.monotonic()
    edge.stop(number)
    assert time.monotonic() - begun < 3
    server.resume()
    edge.wait(lambda: not clients(server))


def test_what_was_counted_last_is_in_the_store_after_quit(stores, server):
    publish = Published(server.client())
    publish.db.delete(CONTROL)
    edge = stores(f"redis://{server.address}", workers=1)
    publish()
    wait_served(edge, 1)
    time.sleep(0.5)
    for unit in range(20):
        get(edge.port, "/", {"X-Account": f"late-{unit}", "Accept": "text/html"})
    edge.stop()
    totals = server.client().hgetall("experiment:c:one:1")
    exposed = sum(int(value.split(b";")[1].split(b",")[1]) for name, value in totals.items() if name.startswith(b"t:"))
    assert exposed >= 20


def test_the_next_worker_leads_when_the_leader_is_killed(stores, server, publish):
    publish()
    edge = stores(f"redis://{server.address}", workers=2, allowed="exited on signal 9")
    wait_served(edge, 1)
    edge.wait(lambda: 2 in connections(edge, server.port).values())
    leader = next(pid for pid, count in connections(edge, server.port).items() if count == 2)
    os.kill(leader, signal.SIGKILL)
    edge.wait(lambda: not is_running(leader))
    edge.wait(lambda: len(edge.worker_pids()) == 2)
    publish()
    wait_served(edge, 2, seconds=10)
    edge.wait(lambda: sorted(connections(edge, server.port).values())[-1:] == [2] and len(clients(server)) == 2)


def test_one_process_without_a_master(stores, server, publish):
    publish()
    edge = stores(f"redis://{server.address}", daemon=False, master=False, workers=1)
    wait_served(edge, 1)
    publish()
    wait_served(edge, 2)
