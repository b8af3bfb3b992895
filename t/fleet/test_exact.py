"""The fleet's totals are what visitors were answered, whatever happened on the way."""
import collections
import contextlib
import os
import random
import signal
import time

from lib.client import get
from lib.crowd import EXPERIMENTS, SERVER, Crowd, roomy, total
from lib.edge import document, experiment
from lib.fault_proxy import CutReplies, FaultProxy
from lib.fleet import SPACE, by_variant
from lib.partitions import ADAPTIVE, BUTTON

DEFINITIONS = document(experiment("visit"), experiment("button", unit="account"))


def told(client):
    exposed, rewarded = collections.Counter(), collections.Counter()
    for key in EXPERIMENTS:
        exposed.update({(key, variant): n for variant, n in by_variant(client, key, 0).items()})
        rewarded.update({(key, variant): n for variant, n in by_variant(client, key, 1).items()})
    return exposed, rewarded


def assert_exact(fleet, client, crowds, seconds=15):
    """What was answered is counted; what an answer was lost of may be."""
    truth = total(crowds, "exposed"), total(crowds, "rewarded")
    doubt = sum(crowd.failures("page", "purchase") for crowd in crowds)

    def exact():
        if not all(client.hexists(f"{SPACE}:ctl", f"x:{key}") for key in EXPERIMENTS):
            return False  # the server has forgotten them, and was not told yet
        return all(0 <= got[k] - want[k] <= 2 * doubt for got, want in zip(told(client), truth)
                   for k in {*got, *want})
    try:
        fleet[0].wait(exact, seconds=seconds, step=0.2)
    except AssertionError:
        raise AssertionError((told(client), truth, doubt)) from None
    assert not any(crowd.wrong for crowd in crowds)
    return sum(truth[0].values())


def ready(fleet):
    """Until every edge enrolls; asked where nobody is counted."""
    for edge in fleet:
        left = set(edge.all_workers())  # each has a plan of its own

        def enrolls():
            *_, pid, reason = get(edge.port, "/").text.split("|")
            if reason != "unknown":
                left.discard(int(pid))
            return not left
        edge.wait(lambda: edge.metrics().get('nginx_experiment_epoch{experiment="visit"}'))
        edge.wait(enrolls, step=0.002)


@contextlib.contextmanager
def visitors(fleet, turn=0, **more):
    """A crowd for each edge; nobody comes twice, whatever the turn."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Crowd(edge.port, seed=1 + n + 10 * turn, **more)) for n, edge in enumerate(fleet)]


def test_three_edges_count_exactly(fleets, server, db):
    fleet = fleets(SERVER, definitions=DEFINITIONS, **roomy())
    ready(fleet)
    with visitors(fleet) as crowds:
        time.sleep(8)
    counted = assert_exact(fleet, db, crowds)
    assert counted > 1000


def test_restarts_reloads_and_killed_workers_lose_nothing(fleets, server, db, soak):
    fleet = fleets(SERVER, definitions=DEFINITIONS, allowed="exited on signal 9|was locked by", **roomy(soak))
    ready(fleet)
    chance, crowds = random.Random(5), []
    for turn in range(30 if soak else 4):
        with visitors(fleet, turn) as now:
            time.sleep(1.5)
            fleet[0].reload()
            os.kill(chance.choice(fleet[1].all_workers()), signal.SIGKILL)
            time.sleep(1)
        crowds += now
        fleet[2].stop()  # an orderly end: the next process has its counts on the disk
        fleet[2].start()
        ready(fleet)
    assert_exact(fleet, db, crowds, seconds=30)


def test_a_server_that_forgets_everything_is_told_again(fleets, server, db):
    fleet = fleets(SERVER, definitions=DEFINITIONS, **roomy())
    ready(fleet)
    crowds = []
    for turn in range(3):
        with visitors(fleet, turn) as now:
            time.sleep(2)
            server.kill()
            time.sleep(1)
            server.start()  # nothing was saved
            time.sleep(2)
        crowds += now
    assert_exact(fleet, db, crowds, seconds=30)


def test_replies_that_end_at_any_byte_lose_nothing(fleets, server, db, soak):
    """Each edge flushes every five seconds; the server has done what was asked, and the edge hears a part of that."""
    count = 8
    with contextlib.ExitStack() as stack:
        ways = [stack.enter_context(FaultProxy(server.port)) for _ in range(count)]
        urls = {n: f"redis://{way.address}" for n, way in enumerate(ways)}
        fleet = fleets(SERVER, count=count, definitions=document(ADAPTIVE, BUTTON), urls=urls, workers=1, **roomy(soak))
        ready(fleet)
        for number, way in enumerate(ways):
            cuts = range(1, 1500) if soak else range(1, 80, 5)  # they have some 80, more with more epochs
            way.fault = CutReplies(b"\r\nexperiment_merge\r\n", cuts[number::count])
            way.drop()
        with visitors(fleet, clients=1, pause_s=0.05) as crowds:
            fleet[0].wait(lambda: not any(way.fault.cuts for way in ways), seconds=900 if soak else 60, step=0.2)
        assert_exact(fleet, db, crowds, seconds=30)
        made = [way.fault.made for way in ways]
        print(f"replies ended at bytes {made}")
        assert min(map(len, made)) >= 1
