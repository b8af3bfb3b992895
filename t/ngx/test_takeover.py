"""A leader that dies while the store cannot be read: the next one takes nothing for "none"."""
import os
import signal

import pytest
from lib.client import get
from lib.edge import document, experiment

CONF = """
    server {
        listen 127.0.0.1:{port};
        location / { experiment all; return 200 "$variant_button|$experiment_reason_dead|$variant_third"; }
    }
"""
DOCUMENT = document(*(experiment(key, unit="account") for key in ("button", "dead", "third")))
UNITS = [f"unit-{n}" for n in range(30)]


def answers(edge):
    return {unit: get(edge.port, "/", headers={"X-Account": unit}).text.split("|") for unit in UNITS}


def take_directory(edge):
    os.rename(edge.state, edge.folder / "gone")


def take_runtime(edge):
    if os.getuid() != 0:
        pytest.skip("workers read what this user may read")
    os.chown(edge.state / "runtime.json", 0, 0)
    os.chmod(edge.state / "runtime.json", 0o600)


@pytest.mark.parametrize("take", [take_directory, take_runtime])
def test_experiments_and_kills_go_on_without_the_store(edges, take):
    edge = edges(CONF, DOCUMENT, workers=2, allowed="exited on signal 9")
    edge.ctl("kill", "dead", "--reason", "it breaks", check=True)
    edge.wait(lambda: {reason for _, reason, _ in answers(edge).values()} == {"killed"})
    before = answers(edge)
    assert {variant for variant, _, _ in before.values()} == {"control", "green"}

    take(edge)
    for pid in edge.worker_pids():
        os.kill(pid, signal.SIGKILL)
    edge.wait(lambda: len(edge.lines("exited on signal 9")) == 2 and len(edge.worker_pids()) == 2)
    edge.kill_file.write_text("third/green\n")  # what the new leader does know holds
    edge.wait(lambda: all(third != "green" for _, _, third in answers(edge).values()))
    now = answers(edge)
    assert {unit: a[:2] for unit, a in now.items()} == {unit: a[:2] for unit, a in before.items()}
    assert {unit for unit, a in now.items() if a[2] == "control"} == {u for u, a in before.items() if a[2] == "control"}
