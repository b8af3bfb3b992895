"""The connections of an edge to its Redis: lost and made again, while requests never notice."""
import json
import os
import pathlib
import random
import re
import signal
import time

import pytest
from lib import fault_proxy
from lib.client import get
from lib.edge import is_running
from lib.fault_proxy import FaultProxy
from lib.redis_library import CONTROL
from lib.transport import Published, Traffic, clients, connections, serves, wait_served


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


@pytest.mark.parametrize("by", ["kill file", "experimentctl"])
def test_a_kill_on_this_machine_waits_for_no_server(stores, server, publish, by):
    publish()
    edge = stores(f"redis://{server.address}", "command_timeout=10s")
    wait_served(edge, 1)
    server.pause()
    with Traffic(edge):
        time.sleep(1.5)  # a step waits for a reply by now, and would for ten seconds
        begun = time.monotonic()
        if by == "kill file":
            edge.kill_file.write_text("one\n")
        else:
            edge.ctl("kill", "one", "--reason", "test", check=True)
        edge.wait(lambda: serves(edge) == 0)
        assert time.monotonic() - begun < 2  # of ten
        server.resume()
        publish()
        wait_served(edge, 1, seconds=10)  # "two"
    edge.wait(lambda: json.loads(server.client().hget(CONTROL, "x:one") or "{}").get("kills"))  # and the fleet's, too
    assert len(edge.lines("no reply yet, and a kill on this machine waits for none")) == 1


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
    "unasked": (fault_proxy.replace(b"+OK\r\n+PONG\r\n+more\r\n" * 3),
                "a reply that nobody asked for|not understood|not what a subscriber is told"),
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
    vectors = [value.split(b";")[1].split(b",") for name, value in totals.items() if name.startswith(b"t:")]
    assert sum(int(vector[1]) for vector in vectors) >= 20


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
    edge.wait(lambda: max(connections(edge, server.port).values()) == len(clients(server)) == 2)


def test_one_process_without_a_master(stores, server, publish):
    publish()
    edge = stores(f"redis://{server.address}", daemon=False, master=False, workers=1)
    wait_served(edge, 1)
    publish()
    wait_served(edge, 2)
