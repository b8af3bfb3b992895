"""Several edges as one: what each says of itself, whether all agree, and what their common store has counted.

The store is asked as an operator would, by experimentctl.
"""
import asyncio
import json
import time
from collections import Counter

from engine import Engine
from visitors import EXPERIMENT

AGREE_S = 2.0  # how long an edge may go without what another one has
LOOK_S = 0.25
COUNT_S = 15   # until all that was counted is in the store
ASKED = ("epoch", "document")


class Fleet:
    """Has what an Engine has: the newest epoch, P(best) as an edge that allocates has it, sums of what was counted."""

    def __init__(self, admin_ports):
        self.engines = [Engine(port, EXPERIMENT) for port in admin_ports]
        self.behind_s = dict.fromkeys(ASKED, 0.0)  # the longest that an edge is known to have gone without a newer one
        self.disagreements = {}                    # (name, edge): what was wrong first
        self._seen = {name: {} for name in ASKED}  # value: when some edge was known to have it

    async def refresh(self):
        asked = time.monotonic()
        await asyncio.gather(*(engine.refresh() for engine in self.engines))
        told = time.monotonic()
        for name in ASKED:
            values = [getattr(engine, name) or 0 for engine in self.engines]
            self._compare(name, values, asked)
            self._seen[name].setdefault(max(values), told)

    def _compare(self, name, values, asked):
        for number, value in enumerate(values, 1):
            newer = {other: at for other, at in self._seen[name].items() if other > value}
            behind_s = asked - min(newer.values(), default=asked)
            self.behind_s[name] = max(self.behind_s[name], behind_s)
            if behind_s > AGREE_S:
                late = f"edge {number} still had {name} {value} {behind_s:.1f} s after another one had {min(newer)}"
                self.disagreements.setdefault((name, number), late)

    async def watch(self):
        """Looks often enough to tell, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.refresh()

    def faults(self):
        return list(self.disagreements.values())

    def agree(self):
        return all(len({getattr(engine, name) for engine in self.engines}) == 1 for name in ASKED)

    def line(self):
        return "  ".join(f"{name}s {' '.join(self._values(name))}" for name in ASKED)

    def lines(self):
        """A table of the edges."""
        verdict = "all agree" if self.agree() else "a new one is on its way"
        rows = [("edge", [str(number + 1) for number in range(len(self.engines))], ""),
                ("epoch", self._values("epoch"), f"{verdict}; at most {self.behind_s['epoch']:.1f} s behind"),
                ("document", self._values("document"), "")]
        return ["  " + f"{name:<10}" + "".join(f"{value:>6}" for value in values) + f"   {note}".rstrip()
                for name, values, note in rows]

    def _values(self, name):
        values = [getattr(engine, name) for engine in self.engines]
        return ["-" if value is None else str(value) for value in values]

    @property
    def epoch(self):
        return max((engine.epoch for engine in self.engines if engine.epoch is not None), default=None)

    @property
    def p_best(self):
        return next((engine.p_best for engine in self.engines if engine.p_best), {})

    @property
    def exposures(self):
        return sum(engine.exposures for engine in self.engines)

    @property
    def rewards(self):
        return sum(engine.rewards for engine in self.engines)

    @property
    def killed(self):
        return sum(engine.killed for engine in self.engines)

    @property
    def false_positives(self):
        return max(engine.false_positives for engine in self.engines)


def stored_totals(site, goal):
    """(units exposed, units rewarded) by variant, the baseline in control, as the store has them of all edges."""
    done = site.ask("status", EXPERIMENT, "--json")
    exposed, rewarded = Counter(), Counter()
    if done.returncode != 0:
        return exposed, rewarded
    (told,) = json.loads(done.stdout)["experiments"]
    for row in [*told["variants"], {**told["baseline"], "key": "control"}]:
        exposed[row["key"]] += row["exposures"]
        rewarded[row["key"]] += row["goals"].get(goal, {}).get("rewarded", 0)
    return exposed, rewarded


def check_totals(site, crowd, fleet):
    """Waits until the store has what visitors saw. Returns what is wrong, if anything is."""
    seen = Counter({v: n for (experiment, v), n in crowd.tally.visitors.items() if experiment == EXPERIMENT})
    bought = Counter({variant: crowd.tally.buyers[EXPERIMENT, variant] for variant in seen})
    exposed = seen + crowd.scouts
    deadline = time.monotonic() + COUNT_S
    while True:
        stored = stored_totals(site, "purchase")
        wrong = [f"the store has {has[variant]} {what} of {variant}, visitors saw {saw[variant]}"
                 for what, has, saw in (("exposures", stored[0], exposed), ("purchases", stored[1], bought))
                 for variant in sorted({*has, *saw})
                 # The filter fills up in hours, and then takes some newcomers for visitors who were counted before.
                 if not 0 <= saw[variant] - has[variant] <= fleet.false_positives * saw[variant]]
        if not wrong or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    print(f"\nThe fleet's store has {sum(stored[0].values())} exposures and {sum(stored[1].values())} purchases; "
          f"visitors saw {sum(exposed.values())} and {sum(bought.values())}.")
    return wrong
