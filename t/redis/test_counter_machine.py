"""The protocol of counters as a state machine: networks, servers and nodes do what they do, in any order.

Instances count, and send what they have counted; what they send is lost, delayed, repeated and reordered;
servers fail over to a copy that lacks the last writes; instances end and are replayed by those that follow;
epochs are sealed, vectors swept. A model says what the store must answer and hold at each step, and when all
have flushed once more the totals must be what was counted, exactly, of each epoch that is not sealed. What was
sealed never changes.
"""
import copy
import itertools
import os
import time

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (RuleBasedStateMachine, initialize, invariant, precondition, rule,
                                 run_state_machine_as_test)
from lib.redis_library import COUNTERS, FORMS, Library

SOAK = bool(os.environ.get("SOAK"))
WEEK = 7 * 1440
EPOCHS = [n * 2**20 + n for n in range(1, 9)]

some = st.integers(0, 1000)  # one of what there is
epochs = st.sampled_from(EPOCHS)
amounts = st.sampled_from((1, 1, 1, 2, 7, 1000, 10**9, 10**13 + 1))


def pick(things, number):
    return things[number % len(things)]


def joined(vector):
    return ",".join(map(str, vector))


def plus(a, b):
    return [x + y for x, y in itertools.zip_longest(a, b, fillvalue=0)]


def larger(a, b):
    return [max(x, y) for x, y in itertools.zip_longest(a, b, fillvalue=0)]


def minus(a, b):
    return [x - y for x, y in itertools.zip_longest(a, b, fillvalue=0)]


def stripped(vector):
    """Without zeros at the end, which say nothing."""
    while vector and not vector[-1]:
        vector = vector[:-1]
    return vector


class Model:
    """What the hash holds, from what is promised of it."""

    def __init__(self):
        self.u, self.order = 0, []
        self.totals, self.marks, self.shards, self.seen = {}, {}, {}, {}
        self.states, self.late, self.tombstones = {}, {}, {}

    def sealed(self, epoch):
        return self.states.get(epoch, ("", ""))[0] == "sealed"

    def merge(self, instance, vectors, now):
        """Statuses; None: fenced."""
        if instance in self.tombstones:
            return None
        statuses = []
        for epoch, vector in vectors.items():
            statuses.append(self.merge_epoch(instance, epoch, vector, now))
        created = int(self.u == 0 and 1 in statuses)
        self.u += 1 in statuses
        return [self.u, created, *statuses]

    def merge_epoch(self, instance, epoch, vector, now):
        if self.sealed(epoch):
            self.late[epoch] = self.late.get(epoch, 0) + 1
            return -1
        old = self.shards.get((epoch, instance))
        new = larger(old or [], vector)
        if new == old:
            if now - self.seen[epoch, instance] > 60:
                self.seen[epoch, instance] = now
            return 0
        self.shards[epoch, instance], self.seen[epoch, instance] = new, now
        total = plus(self.totals.get(epoch, []), minus(new, old or []))
        self.totals[epoch], self.marks[epoch] = total, self.u + 1
        if epoch not in self.order:
            self.order.append(epoch)
        return 1

    def sweep(self, now):
        """How many fields go."""
        gone = [place for place in self.shards if self.sealed(place[0])]
        seen = {}
        for place, minutes in self.seen.items():
            if place not in gone:
                seen[place[1]] = max(seen.get(place[1], 0), minutes)
        for instance, minutes in seen.items():
            if now - minutes >= WEEK:
                gone += [place for place in self.shards if place[1] == instance and not self.sealed(place[0])]
                self.tombstones[instance] = now
        for place in gone:
            del self.shards[place], self.seen[place]
        return len(gone)

    def fields(self):
        """The hash; minutes are left out."""
        told = {f"t:{epoch}": f"{self.marks[epoch]};{joined(total)}" for epoch, total in self.totals.items()}
        told.update({f"s:{epoch}:{instance}": joined(v) for (epoch, instance), v in self.shards.items()})
        told.update({f"a:{epoch}": f"{state};{text}" for epoch, (state, text) in self.states.items()})
        told.update({f"l:{epoch}": str(count) for epoch, count in self.late.items()})
        told.update({f"x:{instance}": "" for instance in self.tombstones})
        if self.u:
            told.update({"u": str(self.u), "e": " ".join(map(str, self.order))})
        return {**told, "m": "1"} if told else {}


class Instance:
    """What counts on one node between two starts."""

    def __init__(self, name):
        self.name = name
        self.vectors = {}  # epoch -> counted
        self.known = {}  # epoch -> what the store has told to have
        self.away = False


class CounterMachine(RuleBasedStateMachine):
    def __init__(self, client, binary):
        super().__init__()
        self.client, self.binary = client, binary
        client.delete(COUNTERS)
        self.model, self.copies = Model(), []
        self.names = itertools.count()
        self.live, self.retired, self.messages = [], [], []
        self.counted = {}  # epoch -> truth
        self.final = {}  # sealed epoch -> totals
        self.reader, self.reader_mark = {}, 0
        self.failed_over = False

    @initialize(form=st.sampled_from(FORMS), instances=st.integers(1, 4))
    def begin(self, form, instances):
        self.library = Library(self.client, form)
        for _ in range(instances):
            self.born()

    def born(self):
        self.live.append(Instance(f"i{next(self.names)}"))
        return self.live[-1]

    # --- nodes ---

    @rule(who=some, epoch=epochs, entry=st.integers(0, 7), amount=amounts)
    def count(self, who, epoch, entry, amount):
        instance = pick(self.live, who)
        for vectors in (instance.vectors, self.counted):
            vector = vectors.setdefault(epoch, [])
            vector += [0] * (entry + 1 - len(vector))
            vector[entry] += amount

    @rule(who=some, epoch=epochs, entries=st.integers(1, 9))
    def append_arms(self, who, epoch, entries):
        vector = pick(self.live, who).vectors.setdefault(epoch, [])
        vector += [0] * (entries - len(vector))

    @rule(who=some)
    def restart(self, who):
        """Its zone is gone; what it had counted is on disk, and is sent by whoever comes after."""
        instance = self.live.pop(who % len(self.live))
        self.retired.append(instance)
        self.born()

    # --- the network ---

    @rule(who=some, only=st.sets(epochs), old=st.booleans())
    def send(self, who, only, old):
        instance = pick(self.retired if old and self.retired else self.live, who)
        vectors = {e: list(v) for e, v in instance.vectors.items() if v and (not only or e in only)}
        if vectors:
            self.messages.append((instance, vectors))

    @precondition(lambda self: self.messages)
    @rule(which=some, again=st.booleans(), answer_lost=st.booleans())
    def deliver(self, which, again, answer_lost):
        instance, vectors = message = pick(self.messages, which)
        if not again:
            self.messages.remove(message)
        self.merge(instance, vectors, answer_lost)

    @precondition(lambda self: self.messages)
    @rule(which=some)
    def lose(self, which):
        self.messages.pop(which % len(self.messages))

    def merge(self, instance, vectors, answer_lost=False):
        words = [word for epoch, vector in vectors.items() for word in (epoch, joined(vector))]
        expected = self.model.merge(instance.name, vectors, self.minutes())
        if expected is None:
            told = self.library.refusal("merge", [COUNTERS], instance.name, *words)
            assert told.startswith("EXPERIMENT FENCED ")
            self.begin_anew(instance)
            return
        assert self.library.merge(COUNTERS, instance.name, *words) == expected
        if not answer_lost:
            for epoch, vector in vectors.items():
                instance.known[epoch] = larger(instance.known.get(epoch, []), vector)

    def begin_anew(self, instance):
        """It was away for too long: what the store has not told to have is carried on under another name. So is
        what is replayed: it may have counted while it was away, and ended before it was heard.
        """
        kind = self.live if instance in self.live else self.retired
        if instance not in kind:
            return  # a late copy of a message
        kind.remove(instance)
        self.messages = [message for message in self.messages if message[0] is not instance]
        kind.append(Instance(f"i{next(self.names)}"))
        for epoch, vector in instance.vectors.items():
            kind[-1].vectors[epoch] = minus(vector, instance.known.get(epoch, []))

    # --- the server ---

    @rule()
    def copy(self):
        """What a replica has: it may become the master at any time after."""
        self.copies.append((self.binary.dump(COUNTERS), copy.deepcopy(self.model), dict(self.final)))

    @precondition(lambda self: self.copies)
    @rule(which=some)
    def fail_over(self, which):
        dump, model, final = pick(self.copies, which)
        self.client.delete(COUNTERS)
        if dump:
            self.binary.restore(COUNTERS, 0, dump)
        self.model, self.final = copy.deepcopy(model), dict(final)
        # Copies of a later time are of the server that is gone. Readers that lost it begin anew.
        self.copies = self.copies[:which % len(self.copies) + 1]
        self.reader, self.reader_mark, self.failed_over = {}, 0, True

    # --- the allocator ---

    @rule(epoch=epochs, text=st.sampled_from(("", "5000,5000;1", "a b")))
    def open_epoch(self, epoch, text):
        open_ = not self.model.sealed(epoch)
        assert self.library.open(COUNTERS, epoch, text) == open_
        if open_:
            self.model.states[epoch] = ("open", text)

    @rule(which=st.sets(epochs, min_size=1, max_size=2), seldom=st.integers(0, 3))
    def seal(self, which, seldom):
        if seldom:
            return
        newly = [epoch for epoch in which if not self.model.sealed(epoch)]
        words = [word for epoch in which for word in (epoch, "end")]
        assert self.library.seal(COUNTERS, *words) == len(newly)
        for epoch in newly:
            self.model.states[epoch] = ("sealed", "end")
            self.final[epoch] = list(self.model.totals.get(epoch, []))

    @rule()
    def sweep(self):
        """Not before all had time to flush after a failover: it may have forgotten that somebody was back."""
        if self.failed_over:
            self.everyone_flushes()
        names = [field for field in self.client.hkeys(COUNTERS) if field.startswith("s:")]
        if names:
            assert self.library.sweep(COUNTERS, WEEK, *names) == self.model.sweep(self.minutes())

    # --- time ---

    @staticmethod
    def minutes():
        return int(time.time() // 60)

    @rule(away=st.integers(0, 15))
    def a_week_passes(self, away):
        """All is quiet first, and no copy is that old. Who is in contact has flushed when it has passed."""
        self.everyone_flushes()
        self.copies.clear()
        for (epoch, instance), minutes in self.model.seen.items():
            self.model.seen[epoch, instance] = minutes - WEEK
            text = self.client.hget(COUNTERS, f"s:{epoch}:{instance}")
            self.client.hset(COUNTERS, f"s:{epoch}:{instance}", f"{minutes - WEEK};{text.partition(';')[2]}")
        self.retired.clear()  # an hour has passed as well
        for n, instance in enumerate(self.live):
            if not away >> n & 1 and instance.vectors:
                self.merge(instance, {e: v for e, v in instance.vectors.items() if v})

    def everyone_flushes(self):
        self.failed_over = False
        for _ in range(2):  # some will have to begin anew
            for instance in [*self.live, *self.retired]:
                vectors = {epoch: vector for epoch, vector in instance.vectors.items() if vector}
                if vectors:
                    self.merge(instance, vectors)

    # --- what must hold ---

    @rule()
    def settle(self):
        self.everyone_flushes()
        stored = self.client.hgetall(COUNTERS)
        for epoch, truth in self.counted.items():
            total = [int(n) for n in stored.get(f"t:{epoch}", ";").partition(";")[2].split(",") if n]
            if not self.model.sealed(epoch):
                assert stripped(total) == stripped(truth), epoch

    @rule()
    def read(self):
        """Whoever follows by marks has at each time what is there."""
        mark, *told = self.library.totals(COUNTERS, self.reader_mark, "i0")
        for epoch, total, own in zip(told[::3], told[1::3], told[2::3]):
            self.reader[int(epoch)] = total
            assert own == joined(self.model.shards.get((int(epoch), "i0"), []))
        assert {int(e) for e in told[::3]} == {e for e, m in self.model.marks.items() if m > self.reader_mark}
        self.reader_mark = mark
        assert mark == self.model.u and self.reader == {e: joined(t) for e, t in self.model.totals.items()}

    @invariant()
    def the_store_holds_what_the_model_says(self):
        stored, minutes = self.client.hgetall(COUNTERS), {}
        for field, text in stored.items():
            if field.startswith(("s:", "x:")):
                seen, _, stored[field] = text.partition(";")
                minutes[field] = int(seen)
        assert stored == self.model.fields()
        for (epoch, instance), seen in self.model.seen.items():
            assert abs(minutes[f"s:{epoch}:{instance}"] - seen) <= 1

    @invariant()
    def sealed_totals_stay(self):
        for epoch, total in self.final.items():
            assert self.model.totals.get(epoch, []) == total

    def teardown(self):
        if self.live:
            self.settle()


def test_counters_are_exact_whatever_happens(client, binary):
    profile = settings(max_examples=1500 if SOAK else 150, stateful_step_count=150 if SOAK else 80,
                       derandomize=not SOAK, deadline=None, suppress_health_check=list(HealthCheck),
                       database=None)
    run_state_machine_as_test(lambda: CounterMachine(client, binary), settings=profile)
