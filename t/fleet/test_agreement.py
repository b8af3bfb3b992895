"""Edges of one namespace agree: on definitions, kills, epochs and their shares, whichever of them leads."""
import collections
import json
import os
import signal
import threading
import time

from lib.client import Browser, get
from lib.edge import document, experiment
from lib.fleet import by_variant, runtime

CONF = """
    server {
        listen 127.0.0.1:{port};
        location / {
            experiment all;
            return 200 "$variant_button|$experiment_reason_button|$experiment_epoch_button|$experiment_propensity_button";
        }
        location = /thanks { experiment all; experiment_reward purchase; return 200 ""; }
        location = /metrics { experiment_metrics; }
    }
"""
BUTTON = experiment("button", unit="account")
UNITS = [f"u{n}" for n in range(30)]


def ask(edge, unit="u0"):
    return get(edge.port, "/", {"X-Account": unit}).text.split("|")


def everywhere(fleet, holds, seconds=5):
    for edge in fleet:
        edge.wait(lambda: all(holds(*ask(edge, unit)) for unit in UNITS), seconds=seconds)  # all workers


def test_a_document_reaches_every_edge_and_means_the_same_there(fleets, server, db):
    fleet = fleets(CONF, definitions=document(BUTTON))
    everywhere(fleet, lambda variant, *_: variant)
    answers = [[ask(edge, unit) for unit in UNITS] for edge in fleet]
    assert answers[0] == answers[1] == answers[2]
    assert {variant for variant, *_ in answers[0]} == {"control", "green"}
    published = fleet.publish(document(experiment("button", ("control", "green", "red"), unit="account")))
    assert "red" in published.stdout
    everywhere(fleet, lambda variant, reason, epoch, share: share.startswith("0.33"))
    answers = [[ask(edge, unit) for unit in UNITS] for edge in fleet]
    assert answers[0] == answers[1] == answers[2]


def test_a_bad_document_is_refused_and_nothing_changes(fleets, server, db):
    fleet = fleets(CONF, definitions=document(BUTTON))
    everywhere(fleet, lambda variant, *_: variant)
    done = fleet.publish('{"schema": 1, "experiments": [{"key": "button"}]}', check=False)
    assert done.returncode == 1 and "/experiments/0/variants" in done.stderr
    assert json.loads(db.hget("test:ctl", "d"))["version"] == 1


def test_kill_and_resume_hold_everywhere(fleets, server, db):
    fleet = fleets(CONF, definitions=document(BUTTON))
    everywhere(fleet, lambda variant, *_: variant)
    fleet.ctl("kill", "button", "--reason", "it burns", check=True)
    everywhere(fleet, lambda variant, reason, *_: reason == "killed")
    again = fleet.publish(document(BUTTON, holdout=0.01))  # a pipeline that wants it running
    assert again.returncode == 3 and "resume" in again.stdout + again.stderr
    time.sleep(1.5)
    everywhere(fleet, lambda variant, reason, *_: reason == "killed")
    fleet.ctl("resume", "button", "--reason", "it was the lamp", check=True)
    everywhere(fleet, lambda variant, reason, *_: variant or reason == "holdout")
    audit = json.loads(fleet.ctl("audit", "--json", check=True).stdout)
    verbs = [entry["verb"] for entry in audit["entries"]]
    assert verbs[0] == "resume" and "kill" in verbs and "publish" in verbs


def test_a_kill_that_the_store_refuses_is_no_success(fleets, server, db):
    fleet = fleets(CONF, count=1, definitions=document(BUTTON))
    everywhere(fleet, lambda variant, *_: variant)
    db.config_set("min-replicas-to-write", 1)
    refused = fleet.ctl("kill", "button", "--reason", "it burns")
    assert refused.returncode == 4 and "nothing was changed" in refused.stderr, refused.stdout + refused.stderr
    db.config_set("min-replicas-to-write", 0)
    fleet.ctl("kill", "button", "--reason", "it burns", check=True)
    everywhere(fleet, lambda variant, reason, *_: reason == "killed")


def test_the_allocator_dies_and_another_takes_over(fleets, server, db):
    fleet = fleets(CONF, definitions=document(BUTTON))
    everywhere(fleet, lambda variant, *_: variant)
    for n in range(2):
        holder = db.hget("test:ctl", "lease").split()[0]
        (victim,) = [edge for edge in fleet if instance_of(edge) == holder]
        for pid in [victim.pid, *victim.children()]:
            os.kill(pid, signal.SIGKILL)
        victim.pid = None
        fleet.edges.remove(victim)
        fleet.publish(document(experiment("button", ("control", f"v{n}"), unit="account")))
        everywhere(fleet, lambda variant, *_: variant in ("control", f"v{n}"), seconds=8)


def instance_of(edge):
    (path,) = [p for p in (edge.state / "counters").glob("*.lock")]
    return path.stem.encode()


ADAPTIVE = experiment("button", unit="visitor", allocation={
    "policy": "thompson", "goal": "purchase", "min_epoch": "1s", "baseline": 0,
    "warm_up": {"exposures": 10, "successes": 0, "for": "0s"}})


def test_an_allocation_is_one_everywhere(fleets, server, db):
    """Green sells, control does not: shares move, and no edge ever shows an epoch with another share than the others."""
    fleet = fleets(CONF, definitions=document(ADAPTIVE))
    everywhere(fleet, lambda variant, reason, *_: reason != "unknown")
    shares, stop = collections.defaultdict(set), threading.Event()
    newest, late = {}, []

    def visit(number):
        edge = fleet[number]
        while not stop.is_set():
            browser, asked = Browser(edge.port), time.monotonic()
            variant, reason, epoch, share = browser.go("/").text.split("|")
            shares[epoch, variant].add(share)
            newest[number] = int(epoch), asked
            if variant == "green":
                browser.go("/thanks")
            time.sleep(0.004)

    threads = [threading.Thread(target=visit, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        published = {}
        end = time.monotonic() + 40
        while time.monotonic() < end and (len(published) < 5 or runtime(db, "button")["epochs"][-1]["quotas"][1] < 9000):
            current = runtime(db, "button")["epochs"][-1]["id"]
            published.setdefault(current, time.monotonic())
            late += [(n, shown, epoch) for n, (shown, asked) in list(newest.items()) for epoch, at in published.items()
                     if shown < epoch and asked - at > 2]
            time.sleep(0.05)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not late, late[:5]
    assert all(len(seen) == 1 for seen in shares.values()), dict(shares)
    last = runtime(db, "button")
    assert len({epoch for epoch, _ in shares}) >= 4 and last["epochs"][-1]["quotas"][1] > 8000, last["epochs"]
    for edge in fleet:
        edge.stop()
    # Every purchase was green's, and the fleet's totals are what all edges counted.
    assert by_variant(db, "button", 1).keys() == {"green"}
