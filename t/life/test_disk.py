"""A disk that is full: traffic and counting go on in the zone, and the store gets it when there is room."""
import json
import os
import re
import signal
import subprocess

import pytest
from lib.client import Browser
from lib.crowd import SERVER, Crowd, by_variant, roomy, stored, total
from lib.edge import document, experiment


@pytest.fixture
def full_disk(edges):
    """An edge whose state directory is a small file system, and the functions that fill it and make room."""
    if os.getuid() != 0:
        pytest.skip("mounts a file system")
    edge = edges(SERVER, None, start=False, allowed="exited on signal 9", **roomy())
    options = f"size=64k,mode=755,uid={edge.state.stat().st_uid}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", edge.state]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("may not mount")
    ballast = edge.state / "ballast"

    def fill():
        with open(ballast, "wb", buffering=0) as file:
            try:
                while file.write(b"x" * 512):
                    pass
            except OSError:
                pass
    try:
        definitions = document(experiment("visit"), experiment("button", unit="account"))
        (edge.state / "definitions.json").write_text(json.dumps(definitions))
        edge.start()
        edge.wait((edge.state / "runtime.json").exists)
        yield edge, fill, ballast.unlink
    finally:
        edge.stop()
        subprocess.run(["umount", edge.state], check=True)


def test_a_full_disk_keeps_counts_in_the_zone(full_disk):
    edge, fill, make_room = full_disk
    crowds = []

    def visited():
        with Crowd(edge.port, seed=len(crowds) + 1) as crowd:
            edge.wait(lambda: crowd.answers > 100)
        assert not crowd.failed and not crowd.wrong, (crowd.failed[:3], crowd.wrong[:3])
        crowds.append(crowd)

    def all_of_it():
        return (stored(edge, "n") == total(crowds, "exposed") and
                stored(edge, "purchase") == total(crowds, "rewarded"))

    visited()
    edge.wait(lambda: list(edge.state.glob("counters/*.json")))
    regular = Browser(edge.port)
    first = regular.go("/").text.split("|")[0]
    crowds[0].exposed["visit", first] += 1
    fill()
    visited()
    edge.wait_log(r"\[error\].*No space left on device; counters not written, they wait in the zone")
    edge.reload()
    visited()
    for pid in edge.worker_pids():
        os.kill(pid, signal.SIGKILL)
    edge.wait(lambda: len(edge.lines("exited on signal 9")) == edge.workers)
    edge.all_workers()
    visited()
    assert regular.go("/").text.split("|")[0] == first
    assert by_variant(edge.metrics(), "exposures_total") == total(crowds, "exposed")
    assert not all_of_it() and not list(edge.state.glob("**/*.tmp"))
    told = [re.sub(r"^.*?experiment: ", "", line) for line in edge.lines(r"\[(error|crit)\]")]
    # By each leader at most once in ten seconds, and once by the workers that the reload ended.
    counts = [line for line in told if line.endswith("; counters not written, they wait in the zone")]
    others = [line for line in told if line.endswith("; what this edge does is not reported")]
    assert len(counts) + len(others) == len(told), told
    assert len(counts) <= 4 and len(set(counts)) == 1 and len(others) <= 4, told
    make_room()
    edge.wait(all_of_it)
    fill()
    visited()
    make_room()
    edge.stop()
    assert all_of_it()
