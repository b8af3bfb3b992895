"""Whoever is cut off, allocates twice or forgets: an epoch has one table, nothing goes back, in the end all agree."""
import contextlib
import os
import random
import time

import pytest
from lib.crowd import roomy
from lib.partitions import Partitions, Witness

from test_exact import assert_exact, ready, visitors

AGREED_S = 10  # on a machine with nothing else to do it takes 2 s
MANY = 40


@pytest.fixture
def seed():
    return int(os.environ.get("SEED") or random.randrange(10**6))


def test_epochs_are_one_everywhere_and_nothing_goes_back(edges, server, soak, seed):
    print(f"SEED={seed}")
    chance = random.Random(seed)
    events = list(Partitions.EVENTS) * (MANY // len(Partitions.EVENTS) if soak else 1)
    chance.shuffle(events)
    with Partitions(edges, server, seed=seed, **roomy(soak)) as partitions, contextlib.ExitStack() as crowded:
        ready(partitions.fleet)
        with Witness(partitions) as witness:
            crowds = crowded.enter_context(visitors(partitions.fleet))
            for event in events:
                begun = time.monotonic()
                event(partitions)
                healed = time.monotonic()
                partitions.fleet[0].wait(partitions.agree, seconds=AGREED_S)
                agreed = time.monotonic()
                print(f"{event.__name__}: {healed - begun:.1f} s, all agree after {agreed - healed:.2f} s")
            crowded.close()
            assert_exact(partitions.fleet, partitions.server.client(), crowds, seconds=30)
        witness.assert_consistent(partitions.resumed)
        assert len(witness.shown) > len(events)
