"""Reloads under load: nobody notices, nothing is lost, and the master does not grow."""
import os
import pathlib
import re
import shutil
import signal
import socket

import pytest
from lib import sanitizer
from lib.client import NAVIGATION, get
from lib.crowd import SERVER, Crowd, assert_counted, assert_stored, by_variant, roomy, stored
from lib.edge import MODULE, document, experiment, is_running

DOCUMENT = document(experiment("visit"), experiment("button", unit="account"))
ROOMY = roomy()
# It keeps what was freed for a while, and modules for good, so that its reports have names.
SANITIZED = bool(sanitizer.runtimes(MODULE))


def anonymous_kb(pid):
    """Memory of the process's own, also where children share it until somebody writes; without the zone."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Anonymous: +(\d+) kB", text, re.M).group(1))


def slope(values):
    """Least squares, per reload. Neighbours are averaged: cycles take turns between two places in memory."""
    means = [(a + b) / 2 for a, b in zip(values[::2], values[1::2])]
    steps = [n - (len(means) - 1) / 2 for n in range(len(means))]
    return sum(x * y for x, y in zip(steps, means)) / sum(x * x for x in steps) / 2


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


# What a configuration may hold in memory of its own.
RICH = """
        location = /dead { experiment dead; return 200 $variant_dead|$experiment_reason_dead; }
        location /rich/ {
            experiment v* bu* de*; experiment_types application/json; experiment_exposure $arg_x;
            experiment_isolation tagged; experiment_cohort_max 8;
            experiment_cookie other samesite=Strict max_age=9d;
            experiment_reward purchase value=$arg_value id=$arg_id;
            return 200 $experiment_epoch_visit$experiment_cohort;
        }
        location = /e { experiment_beacon; }
        location = /thanks"""


def test_a_hundred_reloads_under_load(edges, soak):
    """The slopes are of the second half: the first fills what malloc keeps. The master's is of its anonymous
    memory, the workers' of that of one of each generation, just after it was made."""
    edge = edges(SERVER.replace("        location = /thanks", RICH), document(
        experiment("visit"), experiment("button", unit="account"), experiment("dead")), **roomy(soak))
    edge.kill_file.write_text("dead\n")
    edge.wait(lambda: get(edge.port, "/dead").text == "|killed")
    epochs = {key: edge.runtime(key)["epochs"] for key in ("visit", "button")}
    master, worker, files = [], [], []
    with Crowd(edge.port) as closing, Crowd(edge.port, clients=0, kept=2, seed=2) as keeping:
        for _ in range(1000 if soak else 100):
            answered = closing.answers, keeping.answers
            edge.reload()
            master.append(anonymous_kb(edge.pid))
            worker.append(anonymous_kb(min(edge.worker_pids())))
            files.append(open_files(edge.pid))
            assert get(edge.port, "/dead").text == "|killed"
            edge.wait(lambda: closing.answers > answered[0] + 5 and keeping.answers > answered[1] + 5)
    half = len(master) // 2
    growth = {"master": slope(master[half:]), "worker": slope(worker[half:]), "files": slope(files[half:])}
    print(f"{len(master)} reloads, {closing.answers} answers on connections of their own, "
          f"{len(closing.failed)} failed; {keeping.answers} on kept ones, {keeping.reused} found closed when used "
          f"again; kB per reload: {growth}")
    assert not closing.failed and not keeping.failed and not closing.wrong and not keeping.wrong
    assert growth["files"] < 0.5, growth  # one that leaks is 1 or more; those of a moment come and go
    assert SANITIZED or (growth["master"] < 1 and growth["worker"] < 1), growth
    edge.wait(lambda: not any(b"shutting down" in edge.title(pid) for pid in edge.children()))
    assert {key: edge.runtime(key)["epochs"] for key in epochs} == epochs
    assert_counted(edge, closing, keeping)
    assert not edge.lines(r"\[(error|crit)\]") and len(instances(edge)) == 1


class Download:
    """A client that reads the head of a large answer, and the rest when it is told to."""

    def __init__(self, edge, path="/big"):
        self.socket = socket.create_connection(("127.0.0.1", edge.port), timeout=20)
        head = "".join(f"{name}: {value}\r\n" for name, value in NAVIGATION.items())
        head = f"GET {path} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n{head}\r\n"
        self.socket.sendall(head.encode())
        self.text = b""
        while b"\r\n\r\n" not in self.text:
            self.text += self.socket.recv(1024)
        self.head, _, self.body = self.text.partition(b"\r\n\r\n")

    def rest(self):
        while data := self.socket.recv(1 << 16):
            self.body += data
        self.socket.close()
        return self.body

    def told(self, name):
        return re.search(rb"\r\n%s: ([^\r]*)" % name.encode(), self.head).group(1).decode()


BIG = b"0123456789abcde\n" * (1 << 19)  # 8 MiB: more than sockets buffer
DOWNLOADS = SERVER.replace("location = /thanks", """location = /big {
            experiment all; alias {folder}/big; add_header X-Variant $variant_visit; add_header X-Pid $pid;
        }
        location = /thanks""")


def with_downloads(edges, **more):
    edge = edges(DOWNLOADS, DOCUMENT, level="notice", **more)
    (edge.folder / "big").write_bytes(BIG)
    return edge


def counted_once(edge, variant):
    edge.wait(lambda: by_variant(edge.metrics(), "requests_total") == {("visit", variant): 1})
    assert by_variant(edge.metrics(), "exposures_total") == {("visit", variant): 1}


def test_a_download_outlives_ten_reloads_and_is_counted_once(edges):
    """And ten documents: the worker that serves it keeps the plan that it began with."""
    edge = with_downloads(edges, shutdown="60s")
    download = Download(edge)
    variant, pid = download.told("X-Variant"), int(download.told("X-Pid"))
    for n in range(10):
        edge.define(document(experiment("visit", ("control", "green", f"v{n}")),
                             experiment("button", unit="account", desired="stopped" if n % 2 else "running")))
        edge.wait_log(f"definitions {n + 2} in use")
        edge.reload()
    assert b"shutting down" in edge.title(pid)
    assert by_variant(edge.metrics(), "exposures_total") == {("visit", variant): 1}
    body = download.rest()
    assert body == BIG
    counted_once(edge, variant)
    sent = by_variant(edge.metrics(), "sent_bytes_total")
    assert sent == {("visit", variant): len(download.head) + 4 + len(BIG)}
    edge.wait(lambda: not is_running(pid))
    edge.stop()
    assert_stored_one(edge, variant)


def assert_stored_one(edge, variant):
    assert stored(edge, "n") == {("visit", variant): 1}


def test_a_worker_that_is_out_of_patience_still_counts(edges):
    edge = with_downloads(edges, shutdown="1s")
    download = Download(edge)
    variant, pid = download.told("X-Variant"), int(download.told("X-Pid"))
    edge.reload()
    edge.wait(lambda: not is_running(pid))
    assert len(download.rest()) < len(BIG)
    counted_once(edge, variant)
    edge.stop()
    assert_stored_one(edge, variant)


def under_load(edge, change, rounds=1):
    """The crowd that came while `change` was made; a part of it before, a part of it after."""
    with Crowd(edge.port) as crowd:
        for n in range(rounds):
            edge.wait(lambda: crowd.answers > (2 * n + 1) * 150)
            change(n)
            edge.wait(lambda: crowd.answers > (2 * n + 2) * 150)
    assert not crowd.failed and not crowd.wrong, (crowd.failed[:3], crowd.wrong[:3])
    return crowd


def instances(edge):
    return {path.stem for path in edge.state.glob("counters/*.json")}


def test_more_and_fewer_workers(edges):
    edge = edges(SERVER, DOCUMENT, **ROOMY)

    def change(n):
        edge.configure(SERVER, workers=(5, 1, 9, 2)[n])
        edge.reload()
    assert_counted(edge, under_load(edge, change, rounds=4))
    assert len(instances(edge)) == 1


@pytest.mark.parametrize("name, size", [("experiments", "32m"), ("other", "24m")], ids=["resized", "renamed"])
def test_a_zone_resized_or_renamed_by_a_reload_is_another_one(edges, name, size):
    """Metrics begin anew, as after a restart; the store has the counts of both. Accounts, which only a zone
    remembers, are new in it."""
    edge = edges(SERVER, DOCUMENT, **ROOMY)
    old = edge.all_workers()

    def change(_):
        edge.configure(SERVER, zone=ROOMY["zone"].replace("=experiments:", f"={name}:"), size=size)
        edge.reload()
        edge.wait(lambda: not any(is_running(pid) for pid in old))
    crowd = under_load(edge, change)
    edge.stop()
    assert_stored(edge, crowd, experiments=("visit",))
    assert len(instances(edge)) == 2


def test_a_zone_that_is_too_small_changes_nothing(edges):
    edge = edges(SERVER, DOCUMENT, **ROOMY, allowed=r"\[emerg\]")
    old = edge.all_workers()

    def change(_):
        edge.configure(SERVER, size="4m")
        edge.send(signal.SIGHUP)
        edge.wait_log(r'\[emerg\].*experiment_zone "experiments" is too small: 4194304 bytes, '
                      r"expected at least \d+ for filter=16777216; nothing was changed")
        assert edge.worker_pids() == old
    crowd = under_load(edge, change)
    edge.configure(SERVER, size=ROOMY["size"])
    edge.reload()
    assert_counted(edge, crowd)


def mapped_module(pid, module):
    """Inodes of the module's files in a process."""
    lines = pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split()[4] for line in lines if str(module) in line}


def test_a_replaced_module_comes_with_an_upgrade_only(edges):
    """Installed by rename: what runs keeps the old file, reloads included, for the loader knows the path."""
    edge = edges(SERVER, DOCUMENT, **ROOMY, start=False)
    edge.module = edge.folder / "installed.so"
    shutil.copy(MODULE, edge.module)
    edge.configure(SERVER)
    edge.start()
    before = mapped_module(edge.pid, edge.module)

    def change(_):
        shutil.copy(MODULE, edge.folder / "new.so")
        os.replace(edge.folder / "new.so", edge.module)
        edge.reload()
        assert all(mapped_module(pid, edge.module) == before for pid in (edge.pid, *edge.worker_pids()))
        assert len(instances(edge)) <= 1
        edge.end_master(edge.upgrade())
    crowd = under_load(edge, change)
    now = mapped_module(edge.pid, edge.module)
    assert len(now) == 1 and now == {str(edge.module.stat().st_ino)} and now != before
    edge.stop()
    assert_stored(edge, crowd, experiments=("visit",))


def test_a_module_of_another_path_is_another_module(edges):
    """A reload loads it beside the old one, with a zone of its own, and drops the old one behind itself."""
    edge = edges(SERVER, DOCUMENT, **ROOMY)
    old = edge.all_workers()

    def change(_):
        edge.module = edge.folder / "other.so"
        shutil.copy(MODULE, edge.module)
        edge.configure(SERVER)
        edge.reload()
        edge.wait(lambda: not any(is_running(pid) for pid in old))
    crowd = under_load(edge, change)
    assert SANITIZED or not mapped_module(edge.pid, MODULE)
    assert mapped_module(edge.pid, edge.module)
    edge.stop()
    assert_stored(edge, crowd, experiments=("visit",))
    assert len(instances(edge)) == 2


@pytest.mark.skipif(os.getuid() != 0, reason="writes into the memory of the master")
def test_a_zone_of_another_layout_is_left_alone(edges):
    edge = edges(SERVER, DOCUMENT, **ROOMY, allowed=r"\[emerg\]")
    old = edge.all_workers()
    with open(f"/proc/{edge.pid}/mem", "r+b", buffering=0) as memory:
        for line in pathlib.Path(f"/proc/{edge.pid}/maps").read_text().splitlines():
            begin, end = (int(address, 16) for address in line.split()[0].split("-"))
            if "/dev/zero" in line and end - begin == 24 << 20:
                memory.seek(begin)
                at = begin + memory.read(1 << 20).index(b"expzone1") + 8
        memory.seek(at)
        layout = memory.read(4)

        def change(n):
            memory.seek(at)
            memory.write(layout if n else b"\x63\0\0\0")
            if n:
                return edge.reload()
            edge.send(signal.SIGHUP)
            edge.wait_log(r'\[emerg\].*experiment_zone "experiments" cannot be taken over: it has layout 99, '
                          r"expected \d+; the old configuration stays in use")
            assert edge.worker_pids() == old
        assert_counted(edge, under_load(edge, change, rounds=2))
    assert len(instances(edge)) == 1
