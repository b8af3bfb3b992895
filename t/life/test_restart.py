"""Restarts and upgrades: counts add up exactly, over all lives of an edge."""
import os
import signal

import pytest
from lib.client import Browser
from lib.crowd import SERVER, Crowd, assert_stored, by_variant, roomy, stored, total
from lib.edge import document, experiment

DOCUMENT = document(experiment("visit"), experiment("button", unit="account"))
FLUSH_S = 5


def visited(edge, answers, **more):
    """A crowd that came until it had so many answers, and left: nothing of it is under way."""
    with Crowd(edge.port, **more) as crowd:
        edge.wait(lambda: crowd.answers >= answers)
    assert not crowd.failed and not crowd.wrong, (crowd.failed[:3], crowd.wrong[:3])
    return crowd


def instances(edge):
    return {path.stem for path in edge.state.glob("counters/*.json")}


@pytest.mark.parametrize("way", [signal.SIGQUIT, signal.SIGTERM])
def test_a_restart_loses_nothing(edges, way):
    edge = edges(SERVER, DOCUMENT, **roomy())
    regular = Browser(edge.port)
    first = regular.go("/").text.split("|")[0]
    crowds, epochs = [], edge.runtime("visit")["epochs"]
    for n in range(3):
        crowds.append(visited(edge, 150, seed=n + 1))
        assert regular.go("/").text.split("|")[0] == first
        edge.stop(way)
        assert_stored(edge, *crowds, experiments=("button",))
        edge.start()
    assert regular.go("/").text.split("|")[0] == first and edge.runtime("visit")["epochs"] == epochs
    edge.stop()
    crowds[0].exposed["visit", first] += 1  # the regular, in all lives once
    assert_stored(edge, *crowds)
    assert len(instances(edge)) == 4 and not edge.lines(r"\[(error|crit)\]")


def test_sigterm_under_load_loses_nothing_that_was_answered(edges):
    edge = edges(SERVER, DOCUMENT, **roomy())
    with Crowd(edge.port, pause_s=0) as crowd:
        edge.wait(lambda: crowd.answers > 300)
        edge.stop(signal.SIGTERM)
        edge.wait(lambda: crowd.failed)
    counted = stored(edge, "n")
    assert all(counted[key] >= value for key, value in crowd.exposed.items())
    assert counted.total() <= crowd.exposed.total() + 2 * crowd.failures("page")
    assert not crowd.wrong and not edge.lines(r"\[(error|crit)\]")


def test_power_is_lost_twice(edges):
    """Whatever was flushed stays; what comes afterwards is added to it."""
    edge = edges(SERVER, DOCUMENT, **roomy())
    kept = [visited(edge, 150, seed=1)]
    path = edge.wait(lambda: next(iter(edge.state.glob("counters/*.json")), None), seconds=2 * FLUSH_S)
    edge.wait(lambda: by_variant(edge.metrics(), "exposures_total") == stored(edge, "n"), seconds=FLUSH_S + 3)
    lost = visited(edge, 50, seed=2)
    edge.kill_everything()
    before = stored(edge, "n")
    assert all(before[key] >= value for key, value in kept[0].exposed.items())
    assert all(before[key] <= value for key, value in total(kept + [lost], "exposed").items())
    whole = path.read_bytes()
    edge.start()
    kept.append(visited(edge, 150, seed=3))
    edge.stop()
    assert stored(edge, "n") == before + kept[1].exposed
    assert path.read_bytes() == whole and len(instances(edge)) == 2
    edge.start()
    edge.kill_everything()
    assert stored(edge, "n") == before + kept[1].exposed
    assert not edge.lines(r"\[(error|crit)\]")


def age(path, seconds=3600):
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_what_is_gone_for_long_is_folded_and_counts_on(edges):
    edge = edges(SERVER, DOCUMENT, **roomy())
    crowds = [visited(edge, 100)]
    edge.stop()
    (gone,) = edge.state.glob("counters/*.json")
    age(gone)
    edge.start()
    crowds.append(visited(edge, 100, seed=2))
    edge.wait(lambda: not gone.exists(), seconds=2 * FLUSH_S)
    assert (edge.state / "counters" / "folded.json").exists()
    edge.stop()
    assert_stored(edge, *crowds)
    assert not edge.lines(r"\[(error|crit)\]")


def test_an_upgrade_and_back_again_under_load(edges):
    """As nginx's manual has it: USR2, WINCH, and then QUIT to the old master, or HUP to it and QUIT to the new
    one. Visitors keep their variant throughout; accounts are new to a zone that does not know them."""
    edge = edges(SERVER, DOCUMENT, **roomy())
    old_workers = edge.all_workers()
    with Crowd(edge.port) as crowd:
        def meanwhile():
            known = crowd.answers
            edge.wait(lambda: crowd.answers > known + 150)

        def answered_by(pids):
            crowd.pids.clear()
            meanwhile()
            return crowd.pids & set(pids)

        meanwhile()
        for back in (True, False):
            old = edge.upgrade()
            new_workers = edge.all_workers()
            assert answered_by(new_workers)
            meanwhile()  # both serve
            os.kill(old, signal.SIGWINCH)
            edge.wait(lambda: not edge.worker_pids(old))
            edge.wait(lambda: not set(old_workers) & set(edge.children(old)))
            assert not answered_by(old_workers)
            if back:
                os.kill(old, signal.SIGHUP)
                old_workers = edge.wait(lambda: len(pids := edge.worker_pids(old)) == edge.workers and pids)
                edge.end_master(edge.pid)
                assert edge.pid == old and answered_by(old_workers)
            else:
                edge.end_master(old)
                assert answered_by(new_workers)
    assert not crowd.failed and not crowd.wrong, (crowd.failed[:3], crowd.wrong[:3])
    edge.stop()
    assert_stored(edge, crowd, experiments=("visit",))
    assert len(instances(edge)) == 3
    assert not edge.lines(r"\[(error|crit)\]") and len(edge.runtime("visit")["epochs"]) == 1


def test_an_old_master_that_waited_for_long_counts_on(edges):
    """An hour without a worker: nobody takes its zone for dead while its master may be told to go on."""
    edge = edges(SERVER, DOCUMENT, **roomy())
    crowds = [visited(edge, 100)]
    (waiting,) = edge.wait(lambda: instances(edge))
    old, old_workers = edge.pid, edge.all_workers()
    edge.upgrade()
    os.kill(old, signal.SIGWINCH)
    edge.wait(lambda: not set(old_workers) & set(edge.children(old)))
    path = edge.state / "counters" / f"{waiting}.json"
    age(path)
    for n in (2, 3):  # the second flush comes after the search for the dead that follows the first one
        crowds.append(visited(edge, 60, seed=n))
        edge.wait(lambda: stored(edge, "n") == total(crowds, "exposed"), seconds=2 * FLUSH_S)
    os.kill(old, signal.SIGHUP)
    edge.wait(lambda: edge.worker_pids(old))
    edge.end_master(edge.pid)
    crowds.append(visited(edge, 100, seed=4))
    edge.stop()
    assert_stored(edge, *crowds)
    assert waiting in instances(edge) and not edge.lines(r"\[(error|crit)\]")
