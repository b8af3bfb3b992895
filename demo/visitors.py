"""Simulated visitors: who they are, what they do, and what each of them checks about the pages it gets.

A visitor knows only what a person could know: its own cookies and the pages on its screen. It reads from the page which
variant it is in, buys with the true rate of its button, at most once, and holds every page against the first one.
"""
import asyncio
import random
import re
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from browser import Browser, Connections
from storefront import DELIVERY_GAP, NONE, PRODUCTS, render

EXPERIMENT = "checkout-button"
TRUE_RATES = {"control": 0.04, "green": 0.06, "orange": 0.09}  # what the bandit has to find out
RATES = {**TRUE_RATES, NONE: TRUE_RATES["control"]}            # not enrolled: the page as it is
CONNECTIONS = 16
MAX_WAITING = 200  # page views queued for a connection before arrivals pause
RECENT_S = 5.0
SHOWN_FAULTS = 20
BROKEN_OFF = (ConnectionError, asyncio.IncompleteReadError)

STAMP = re.compile(r'data-(checkout-button|hero-image|delivery-note)="([a-z-]+)"')
DELIVERY_NOTE = re.compile(r'<p class="note" .*?</p>')


@dataclass
class Tally:
    """What all visitors together have seen; the view and the summary read it."""
    started: float = field(default_factory=time.monotonic)
    views: int = 0
    visitors: Counter = field(default_factory=Counter)   # (experiment, variant) of the first page that stamped it
    buyers: Counter = field(default_factory=Counter)     # (experiment, variant)
    arrivals: deque = field(default_factory=deque)       # (monotonic time, variant of EXPERIMENT)
    cache: Counter = field(default_factory=Counter)      # X-Cache-Status of cacheable pages
    not_modified: int = 0
    returned: int = 0                                    # visitors that came back later
    released: int = 0                                    # plain pages to a visitor with a variant: after a kill only
    faults: int = 0
    fault_lines: list = field(default_factory=list)
    etags: dict = field(default_factory=dict)            # (path, ETag): the variants of the page it came with

    def fault(self, text):
        self.faults += 1
        if len(self.fault_lines) < SHOWN_FAULTS:
            self.fault_lines.append(text)

    def recent(self, now):
        """Variants of the newcomers of the last RECENT_S seconds."""
        while self.arrivals and self.arrivals[0][0] < now - RECENT_S:
            self.arrivals.popleft()
        return Counter(variant for _, variant in self.arrivals)

    def hit_ratio(self):
        """Share of cacheable pages that were answered without the backend; None before the first."""
        asked = sum(self.cache.values())
        return (asked - self.cache["MISS"] - self.cache["EXPIRED"]) / asked if asked else None

    def purchases_gained(self):
        """Expected purchases above those of an equal split: sum over visitors of (rate of theirs - mean rate)."""
        mean = sum(TRUE_RATES.values()) / len(TRUE_RATES)
        return sum(self.visitors[EXPERIMENT, variant] * (rate - mean) for variant, rate in TRUE_RATES.items())


class Visitor:
    """`entrances`: Connections of each edge, every session takes the next; `views` gets the tasks of page views."""

    def __init__(self, number, entrances, tally, rng, views):
        self.number = number
        self.entrances = entrances
        self.sessions = 0
        self.browser = Browser(entrances[number % len(entrances)])
        self.tally = tally
        self.rng = rng
        self.views = views
        self.inclination = rng.random()  # buys where this is below the rate of its variant
        self.seen = {}                   # experiment: variant of the first page that stamped one
        self.bought = False

    async def live(self):
        """First visit; for a quarter a second one some time later, with the same browser."""
        await self.session()
        if self.rng.random() < 0.25:
            await asyncio.sleep(self.rng.uniform(4, 15))
            self.tally.returned += 1
            await self.session()

    async def session(self):
        self.browser.connections = self.entrances[(self.number + self.sessions) % len(self.entrances)]
        self.sessions += 1
        if self.rng.random() < 0.3:
            await self.open("/")
        for slug in self.rng.sample(list(PRODUCTS), self.rng.choice((1, 2, 2, 3))):
            await self.open(f"/product/{slug}")
            await asyncio.sleep(self.rng.uniform(0.05, 0.6))
        if not self.bought and self.inclination < RATES[self.seen.get(EXPERIMENT, NONE)]:
            self.bought = True
            await self.open("/thanks")

    async def open(self, path):
        """Whoever is sent away meanwhile still looks at the page that was asked for, as nginx may have counted it."""
        view = asyncio.create_task(self.look_at(path))
        self.views.add(view)
        view.add_done_callback(self.views.discard)
        await asyncio.shield(view)

    async def look_at(self, path):
        cookies = dict(self.browser.jar)
        response, body = await self.browser.navigate(path)
        self.tally.views += 1
        if response.status not in (200, 304):
            return self.fault(path, f"answered {response.status}")
        self.check_headers(path, response, cookies)
        page = body.decode()
        variants = dict(STAMP.findall(page))
        if DELIVERY_NOTE.sub(DELIVERY_GAP, page) != render(path, variants):
            self.fault(path, f"is not the page of {variants}")
        self.check_variants(path, variants)
        self.check_etag(path, response, variants)
        if path == "/thanks":  # what is killed by then has no part in the purchase
            self.tally.buyers.update((e, v) for e, v in self.seen.items() if variants.get(e) != NONE)

    def check_variants(self, path, variants):
        for experiment, variant in variants.items():
            known = self.seen.get(experiment)
            if known is None and variant != NONE:
                self.seen[experiment] = variant
                self.tally.visitors[experiment, variant] += 1
                if experiment == EXPERIMENT:
                    self.tally.arrivals.append((time.monotonic(), variant))
            elif known is not None and variant == NONE:
                self.tally.released += 1
            elif variant != known and variant != NONE:
                self.fault(path, f"shows {experiment}={variant}, it was {known} before")

    def check_headers(self, path, response, cookies):
        leaked = [name for name in response.headers if name.startswith("experiment-")]
        if leaked:
            self.fault(path, f"leaks {', '.join(leaked)}")
        for name, value in response.cookies:
            if name.endswith("uid") and name in cookies:
                self.fault(path, f"makes another visitor of {cookies[name]}: {value}")
        caching = response.headers.get("cache-control", "")
        if path != "/thanks" and not ("private" in caching and "no-cache" in caching):
            self.fault(path, f"may be stored for others: Cache-Control {caching!r}")
        if "x-cache-status" in response.headers:
            self.tally.cache[response.headers["x-cache-status"]] += 1
        self.tally.not_modified += response.status == 304

    def check_etag(self, path, response, variants):
        etag = response.headers.get("etag")
        first = self.tally.etags.setdefault((path, etag), variants)
        if etag is None or first != variants:
            self.fault(path, f"has ETag {etag}, which is that of {first} too")

    def fault(self, path, text):
        self.tally.fault(f"visitor {self.number}: {path} {text}; cookies {self.browser.jar}")


class Crowd:
    """All visitors of one demo, spread over the edges at `ports`. `per_second` newcomers; each of them then lives in a
    task of its own."""

    def __init__(self, ports, per_second, seed=1):
        self.tally = Tally()
        self.scouts = Counter()  # variants of EXPERIMENT that first() found
        self._entrances = [Connections(port, max(2, CONNECTIONS // len(ports))) for port in ports]
        self._per_second = per_second
        self._rng = random.Random(seed)
        self._alive, self._views = set(), set()

    async def first(self, edge):
        """One visitor of an edge before all others; returns whether experiments run there."""
        scout = Visitor(edge, self._entrances, Tally(), random.Random(0), self._views)
        await scout.open("/product/lamp")
        variant = scout.seen.get(EXPERIMENT)
        self.scouts.update([variant] if variant else [])
        return variant is not None

    async def arrive(self):
        """Sends visitors until it is cancelled; then all of them leave, with the pages that they have asked for."""
        number, due = 0, time.monotonic()
        self.tally.started = due
        try:
            while True:
                due = max(due + 1 / self._per_second, time.monotonic() - 0.1)  # a pause is not made up for
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                while sum(entrance.waiting for entrance in self._entrances) > MAX_WAITING:
                    await asyncio.sleep(0.05)
                number += 1
                task = asyncio.create_task(self._live(number))
                self._alive.add(task)
                task.add_done_callback(self._alive.discard)
        finally:
            for task in self._alive:
                task.cancel()
            left = await asyncio.gather(*self._alive, *self._views, return_exceptions=True)
            for error in left:
                if isinstance(error, BROKEN_OFF):
                    self.tally.fault(f"nginx broke off ({error!r})")

    async def _live(self, number):
        visitor = Visitor(number, self._entrances, self.tally, random.Random(self._rng.random()), self._views)
        try:
            await visitor.live()
        except BROKEN_OFF as error:
            self.tally.fault(f"visitor {number}: nginx broke off ({error!r})")
