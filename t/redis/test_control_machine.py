"""Runtime state as a state machine: writers that compare and set, readers that follow, servers that forget.

Whoever follows the changes, however seldom it asks and whatever a failover has taken back, has after each
answer what a full read would tell. No write goes through that was made from anything but what stands. One
instance allocates.
"""
import copy
import itertools
import os
import time

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (RuleBasedStateMachine, initialize, invariant, precondition, rule,
                                 run_state_machine_as_test)
from lib.redis_library import CONTROL, FORMS, Library

SOAK = bool(os.environ.get("SOAK"))
STEP = 2**20
KEPT = 1000
CHANNEL = "experiment:push"
FIELDS = ["d", "doc", "doc_done", "kills", "x:a", "x:b", "x:c-1"]
LEASE_MS = 600000

some = st.integers(0, 1000)  # one of what there is


def pick(things, number):
    return things[number % len(things)]


class Model:
    """What the hash holds, from what is promised of it."""

    def __init__(self):
        self.changes = []  # (change id, fields), oldest first
        self.fields = {}
        self.lease = None  # holder, renewals, whether it holds

    @property
    def newest(self):
        return self.changes[-1][0] if self.changes else 0

    def write(self, known, bits, fields):
        if known != self.newest:
            return [0, self.newest]
        self.changes.append(((self.newest // STEP + 1) * STEP + bits, list(fields)))
        self.fields.update(fields)
        return [1, self.newest]

    def since(self, known):
        """Fields to be told to one who knows that change; None: all of them."""
        for age, (change, _) in enumerate(reversed(self.changes[-KEPT:])):
            if change == known:
                return {field for _, fields in self.changes[len(self.changes) - age:] for field in fields}
        return None

    def stored(self):
        told = dict(self.fields)
        if self.changes:
            told["v"] = str(self.newest)
        for change, fields in self.changes[-KEPT:]:
            told[f"n:{change // STEP}"] = " ".join([str(change), *fields])
        if self.lease:
            told["lease"] = f"{self.lease[0]} {self.lease[1]}"
        return told


class Reader:
    def __init__(self):
        self.known, self.fields = 0, {}


class ControlMachine(RuleBasedStateMachine):
    def __init__(self, client, binary):
        super().__init__()
        self.client, self.binary = client, binary
        client.delete(CONTROL)
        self.model, self.copies = Model(), []
        self.bits = itertools.count(1)
        self.readers = [Reader() for _ in range(3)]
        self.seen = [0]  # change ids that somebody may still believe in

    @initialize(form=st.sampled_from(FORMS))
    def begin(self, form):
        self.library = Library(self.client, form)

    # --- writers ---

    def put(self, known, fields):
        bits = next(self.bits) % STEP
        expected = self.model.write(known, bits, fields)
        words = [word for pair in fields.items() for word in pair]
        assert self.library.write(CONTROL, known, bits, CHANNEL, *words) == expected
        if self.model.newest not in self.seen[-20:]:
            self.seen.append(self.model.newest)

    @rule(fields=st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=5), min_size=1))
    def write(self, fields):
        self.put(self.model.newest, fields)

    @rule(who=some, fields=st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=5), min_size=1))
    def write_from_what_was_read(self, who, fields):
        self.put(pick(self.readers, who).known, fields)

    @rule(which=some, fields=st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=5), min_size=1))
    def write_from_an_old_change(self, which, fields):
        self.put(pick(self.seen, which), fields)

    @rule(seldom=st.integers(0, 15), count=st.sampled_from((KEPT - 1, KEPT, KEPT + 1)))
    def write_many(self, seldom, count):
        if seldom:
            return
        pipeline = self.client.pipeline(transaction=False)
        for n in range(count):
            bits, newest, field = next(self.bits) % STEP, self.model.newest, FIELDS[n % 2]
            pipeline.execute_command(*self.library.words("write", [CONTROL], newest, bits, CHANNEL, field, n))
            self.model.write(newest, bits, {field: str(n)})
        assert pipeline.execute()[-1] == [1, self.model.newest]

    # --- readers ---

    @rule(who=some)
    def read(self, who):
        reader = pick(self.readers, who)
        newest, full, *words = self.library.changes(CONTROL, reader.known)
        told = dict(zip(words[::2], words[1::2]))
        expected = self.model.since(reader.known)
        if not self.model.newest and not reader.known:
            expected = set()
        assert newest == self.model.newest and full == (expected is None)
        if full:
            reader.fields = {}
        else:
            assert set(told) == expected
        reader.fields.update(told)
        reader.known = newest
        assert reader.fields == self.model.fields

    @rule(who=some)
    def begin_anew(self, who):
        self.readers[who % len(self.readers)] = Reader()

    # --- servers ---

    @rule()
    def copy(self):
        self.copies.append((self.binary.dump(CONTROL), copy.deepcopy(self.model)))

    @precondition(lambda self: self.copies)
    @rule(which=some)
    def fail_over(self, which):
        dump, model = pick(self.copies, which)
        self.client.delete(CONTROL)
        if dump:
            self.binary.restore(CONTROL, 0, dump)
        self.model = copy.deepcopy(model)
        self.copies = self.copies[:which % len(self.copies) + 1]

    @rule(seldom=st.integers(0, 7))
    def lose_everything(self, seldom):
        if not seldom:
            self.client.delete(CONTROL)
            self.model, self.copies = Model(), []

    # --- the allocator ---

    @rule(who=st.sampled_from("abc"))
    def lease(self, who):
        won, holder, left = self.library.lease(CONTROL, who, LEASE_MS)
        held = self.model.lease and self.model.lease[2]
        if held and self.model.lease[0] != who:
            assert (won, holder) == (0, self.model.lease[0]) and LEASE_MS - 120000 < left <= LEASE_MS
        else:
            assert (won, holder, left) == (1, who, LEASE_MS)
            self.model.lease = (who, (self.model.lease or (0, 0))[1] + 1, True)

    @rule(who=st.sampled_from("abc"))
    def release(self, who):
        held = self.model.lease is not None and self.model.lease[2] and self.model.lease[0] == who
        assert self.library.release(CONTROL, who) == held
        if held:
            self.model.lease = (*self.model.lease[:2], False)

    @precondition(lambda self: self.model.lease and self.model.lease[2])
    @rule()
    def lease_expires(self):
        self.client.hset(CONTROL, "lease_until", int(time.time() * 1000) - 1)
        holder, renewals, _ = self.model.lease
        self.library.lease(CONTROL, "d", LEASE_MS)
        self.model.lease = ("d", renewals + 1, True)
        assert self.client.hget(CONTROL, "lease") == f"d {renewals + 1}" != f"{holder} {renewals}"

    # --- what must hold ---

    @invariant()
    def the_store_holds_what_the_model_says(self):
        stored = self.client.hgetall(CONTROL)
        assert (stored.pop("lease_until", None) is not None) == (self.model.lease is not None)
        assert stored == self.model.stored()

    def teardown(self):
        if hasattr(self, "library"):
            for who in range(len(self.readers)):
                self.read(who)


def test_readers_that_follow_have_what_stands(client, binary):
    profile = settings(max_examples=1500 if SOAK else 100, stateful_step_count=100 if SOAK else 60,
                       derandomize=not SOAK, deadline=None, suppress_health_check=list(HealthCheck),
                       database=None)
    run_state_machine_as_test(lambda: ControlMachine(client, binary), settings=profile)
