"""A clock that is set forward and back: nothing crashes, nothing is lost, epochs only go on."""
import os
import pathlib
import subprocess
import time
from email.utils import parsedate_to_datetime

import pytest
from lib.client import Browser, get
from lib.crowd import SERVER, Crowd, assert_stored, by_variant, roomy, stored, total
from lib.edge import document, experiment

DAY_S = 86400
ADAPTIVE = experiment("visit", allocation={
    "policy": "thompson", "goal": "purchase", "min_epoch": "1s", "baseline": 0,
    "warm_up": {"exposures": 20, "successes": 2, "for": "1s"}})


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clock")
    source = pathlib.Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", folder / "clock.so", source],
                   check=True)
    return folder / "clock.so"


@pytest.fixture
def clocked(edges, shim):
    def make(definitions):
        edge = edges(SERVER, definitions, start=False, **roomy())
        (edge.folder / "clock").write_text("0")
        environment = edge.environment or dict(os.environ)
        preloaded = [part for part in environment.get("LD_PRELOAD", "").split(":") if part]
        edge.environment = {**environment, "LD_PRELOAD": ":".join([*preloaded, str(shim)]),
                            "CLOCK_FILE": str(edge.folder / "clock")}
        edge.start()
        edge.wait((edge.state / "runtime.json").exists)
        return edge
    return make


def set_clock(edge, offset_s):
    """And waits until nginx serves with it."""
    temporary = edge.folder / "clock.new"
    temporary.write_text(str(offset_s))
    os.replace(temporary, edge.folder / "clock")
    shown = lambda: parsedate_to_datetime(get(edge.port, "/metrics").header("Date")).timestamp() - time.time()
    edge.wait(lambda: all(abs(shown() - offset_s) < 60 for _ in range(8)))


def visited(edge, seed, answers=150):
    with Crowd(edge.port, seed=seed) as crowd:
        edge.wait(lambda: crowd.answers >= answers)
    assert not crowd.failed and not crowd.wrong, (crowd.failed[:3], crowd.wrong[:3])
    return crowd


def epochs(edge):
    return [one["id"] for one in edge.runtime("visit")["epochs"]]


def test_a_day_forward_and_back(clocked):
    """Twice, and with a restart at the wrong time; visitors of each time come back and buy in the others."""
    edge = clocked(document(experiment("visit"), experiment("button", unit="account")))
    began = epochs(edge)
    crowds, regulars = [], []
    for n, offset_s in enumerate((0, DAY_S, 0, DAY_S, -DAY_S, 0)):
        set_clock(edge, offset_s)
        crowds.append(visited(edge, n + 1))
        for regular in regulars:
            assert regular.go("/").text.split("|")[0] == regular.first
        regulars.append(Browser(edge.port))
        regulars[-1].first = regulars[-1].go("/").text.split("|")[0]
        if n == 3:
            edge.stop()
            edge.start()
    # The clock is where it was: no purchase comes before its exposure, or later than its window.
    for regular in regulars:
        regular.go("/thanks")
    assert not by_variant(edge.metrics(), 'rewards_dropped_total', ("visit",))
    edge.stop()
    exposed, rewarded = total(crowds, "exposed"), total(crowds, "rewarded")
    for regular in regulars:
        exposed["visit", regular.first] += 1
        rewarded["visit", regular.first] += 1
    assert stored(edge, "n") == exposed and stored(edge, "purchase") == rewarded
    assert epochs(edge) == began and not edge.lines(r"\[(error|crit)\]")


def test_epochs_of_an_adaptive_experiment_go_on(clocked):
    """Their numbers grow whatever the clock says."""
    edge = clocked(document(ADAPTIVE, experiment("button", unit="account")))
    crowds, seen = [], epochs(edge)
    for n, offset_s in enumerate((0, 7200, -7200, 0)):
        set_clock(edge, offset_s)
        crowds.append(visited(edge, n + 1, answers=400))
        assert by_variant(edge.metrics(), "exposures_total") == total(crowds, "exposed")
        now = epochs(edge)
        assert now[:len(seen)] == seen and now == sorted(now), (seen, now)
        seen = now
    edge.wait(lambda: len(epochs(edge)) > 1)  # it did learn
    edge.stop()
    assert_stored(edge, *crowds)
    assert not edge.lines(r"\[(error|crit)\]")
