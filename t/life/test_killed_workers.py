"""Workers killed at any moment, leaders included: no deadlock, no count goes back, others serve at once."""
import collections
import os
import random
import re
import signal
import time

from lib.client import get
from lib.crowd import SERVER, Crowd, by_variant, roomy, stored
from lib.edge import document, experiment

ACCOUNTS = """
    server {
        listen 127.0.0.1:{port};
        location / {
            experiment all;
            return 200 "$variant_button|$experiment_epoch_button|$variant_dead|$experiment_reason_dead|$pid";
        }
        location = /metrics { experiment_metrics; }
    }
"""
DEAD = experiment("dead", ("a", "b"), unit="account")
KILLED = r"exited on signal 9|zone \"experiments\" was locked by"  # nginx frees the mutex of one that held it


def leader(edge):
    """Who does the leader's work: it alone writes notices about definitions."""
    lines = edge.lines(r"\[notice\] .*experiment: definitions \d+ in use")
    return int(re.search(r"(\d+)#", lines[-1]).group(1)) if lines else None


def not_less(now, before):
    return all(now[key] >= value for key, value in before.items())


def counted_families(edge):
    metrics = edge.metrics()
    return {family: by_variant(metrics, family)
            for family in ("exposures_total", "rewards_total", "requests_total")}


def test_two_hundred_killed_workers(edges, soak):
    edge = edges(SERVER, document(experiment("visit"), experiment("button", unit="account")), workers=4,
                 allowed=KILLED, **roomy(soak))
    chance, kills, slowest = random.Random(3), 10000 if soak else 200, 0
    clients, dying = 3, collections.deque(maxlen=8)
    edge.all_workers()
    seen = counted_families(edge)
    with Crowd(edge.port, clients=clients, pause_s=0.002) as crowd:
        for n in range(kills):
            time.sleep(chance.random() * 0.02)  # at a moment of no meaning
            victim = chance.choice(edge.wait(lambda: [pid for pid in edge.worker_pids() if pid not in dying]))
            os.kill(victim, signal.SIGKILL)
            dying.append(victim)
            began = time.monotonic()
            answer = next(answer for _ in range(clients + 2) if (answer := told_by_another(edge, victim)))
            slowest = max(slowest, time.monotonic() - began)
            assert answer.status == 200
            if n % 10 == 9:
                now = counted_families(edge)
                assert all(not_less(now[family], seen[family]) for family in now), (seen, now)
                seen = now
        edge.all_workers()
        known = crowd.answers
        edge.wait(lambda: crowd.answers > known + 100)
    lost = len(crowd.failed)
    print(f"{kills} kills, {crowd.answers} answers, {lost} connections lost, another worker answered within "
          f"{slowest * 1000:.0f} ms")
    assert slowest < 2 and not crowd.wrong and lost <= kills * clients, (slowest, crowd.wrong[:3], lost)
    now = counted_families(edge)
    # What was answered is counted; what was lost on the way may be.
    bounds = {"exposures_total": (crowd.exposed, crowd.failures("page")),
              "rewards_total": (crowd.rewarded, crowd.failures("purchase"))}
    for family, (answered, in_flight) in bounds.items():
        assert not_less(now[family], answered), (family, now[family], answered)
        assert now[family].total() <= answered.total() + 2 * in_flight, (family, now[family], answered)
    # A request is logged behind its answer: a worker may be killed in between, once each time.
    assert abs(now["requests_total"].total() - crowd.served.total()) <= 2 * (lost + kills)
    edge.stop()
    assert stored(edge, "n") == now["exposures_total"] and stored(edge, "purchase") == now["rewards_total"]
    assert len(list(edge.state.glob("counters/*.json"))) == 1
    assert len(edge.lines("exited on signal 9")) == kills
    assert len(edge.lines("definitions 1 in use")) > kills / 20  # by each leader: many were killed
    assert not edge.lines(r"\[(error|crit)\]")


def started(edges, **more):
    edge = edges(ACCOUNTS, document(experiment("button", unit="account"), DEAD), allowed=KILLED, **more)
    edge.kill_file.write_text("dead\n")
    edge.wait(lambda: get(edge.port, "/", {"X-Account": "0"}).text.split("|")[3] == "killed")
    edge.all_workers()
    return edge


def test_when_the_leader_is_killed_another_one_leads(edges):
    edge = started(edges, workers=3)
    for n in range(3):
        victim = leader(edge)
        assert victim in edge.worker_pids()
        os.kill(victim, signal.SIGKILL)
        began = time.monotonic()
        edge.define(document(experiment("button", ("control", "green", f"v{n}"), unit="account"), DEAD))
        edge.wait(lambda: leader(edge) not in (None, victim), seconds=3)
        edge.wait_log(rf"definitions {n + 2} in use", seconds=3)
        assert time.monotonic() - began < 3
        edge.all_workers()
    edge.kill_file.write_text("dead\nbutton\n")
    edge.wait(lambda: get(edge.port, "/", {"X-Account": "0"}).text.split("|")[0] == "", seconds=3)
    assert len(edge.lines("exited on signal 9")) == 3
    assert not edge.lines(r"\[(error|crit)\]")


def test_a_worker_killed_in_the_middle_of_the_leaders_work_blocks_nobody(edges):
    """Documents change all the time while the leader is killed: the zone's mutex never stays held."""
    edge = started(edges, workers=2)
    for n in range(10):
        edge.define(document(experiment("button", unit="account", variants=("control", f"v{n}")), DEAD,
                             *[experiment(f"more-{i}", unit="account", render="edge",
                                          desired="running" if (i + n) % 2 else "stopped")
                               for i in range(30)]))
        time.sleep(0.05 * (n % 6))  # wherever it is
        victim = leader(edge)
        if victim in edge.worker_pids():
            os.kill(victim, signal.SIGKILL)
        edge.wait(lambda: victim not in edge.children())
        edge.all_workers()
    edge.define(document(experiment("button", unit="account"), DEAD))
    edge.wait(lambda: edge.metrics()["nginx_experiment_experiments"] == 2)
    edge.wait(lambda: get(edge.port, "/", {"X-Account": "7"}).text.split("|")[0] in ("control", "green"))
    assert get(edge.port, "/", {"X-Account": "7"}).text.split("|")[3] == "killed"
    edge.reload()
    assert get(edge.port, "/", {"X-Account": "7"}).text.split("|")[3] == "killed"


def told_by_another(edge, victim):
    """None: the connection was one of those that died."""
    try:
        answer = get(edge.port, "/none", {"Connection": "close"})
    except OSError:
        return None
    assert int(answer.text.split("|")[2]) != victim
    return answer
