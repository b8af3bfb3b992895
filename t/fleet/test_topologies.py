"""Counts are exact and kills hold across failovers of Sentinels and of a Cluster whose slots move."""
import time

import pytest
from lib.client import get
from lib.crowd import SERVER, roomy
from lib.edge import document, experiment
from lib.fleet import Fleet
from lib.redis_topologies import Cluster, Sentinels

from test_exact import DEFINITIONS, assert_exact, ready, visitors


@pytest.fixture
def sentinels():
    made = Sentinels()
    yield made
    made.end()


@pytest.fixture
def cluster():
    made = Cluster()
    yield made
    made.end()


def killed_everywhere(fleet):
    for edge in fleet:
        edge.wait(lambda: all(get(edge.port, "/", {"X-Account": "none"}).text.split("|")[1] == "" for _ in range(10)))


def test_sentinel_failovers_lose_nothing(edges, sentinels, soak):
    fleet = Fleet(edges, sentinels.url, SERVER, count=2, definitions=DEFINITIONS, **roomy(soak))
    ready(fleet)
    crowds = []
    for turn in range(20 if soak else 3):
        with visitors(fleet, turn) as now:
            time.sleep(2)
            sentinels.fail_over(kill=turn % 2 == 1)
            time.sleep(3)
        crowds += now
    assert_exact(fleet, sentinels.db(), crowds, seconds=90)
    fleet.ctl("kill", "button", "--reason", "after failovers", check=True)
    killed_everywhere(fleet)
    sentinels.fail_over()
    time.sleep(3)
    killed_everywhere(fleet)


def test_cluster_failovers_and_moving_slots_lose_nothing(edges, cluster, soak):
    fleet = Fleet(edges, cluster.url, SERVER, count=2, definitions=DEFINITIONS, **roomy(soak))
    ready(fleet)
    crowds, keys = [], ("test:ctl", "test:c:visit:1", "test:c:button:1")
    for turn in range(10 if soak else 3):
        with visitors(fleet, turn) as now:
            time.sleep(2)
            cluster.fail_over(turn)
            cluster.move(keys[turn % 3])
            time.sleep(2)
        crowds += now
    assert_exact(fleet, cluster.db(), crowds, seconds=90)
    fleet.publish(document(experiment("visit"), experiment("button", ("a", "b"), unit="account")))
    for edge in fleet:
        edge.wait(lambda: get(edge.port, "/", {"X-Account": "0"}).text.split("|")[1] in ("a", "b"))
