"""Nobody sees what was made for somebody else: in nginx's own cache, in browsers, in caches in front."""
import collections
import json
import random
import re
import time

import pytest
from lib.client import NAVIGATION, Browser, assignments, get
from lib.edge import ZONE, document, experiment
from lib.load import Connection, Load, request
from lib.storefront import KEYS, Storefront, read

SPLIT = document(
    experiment("button", ("control", "green", "blue")),
    experiment("hero", ("control", "big"), traffic=0.6),
    experiment("shared", ("control", "new"), control_cache="shared"),
    experiment("banner", ("control", "sale"), render="edge"))

HEAD = """
    keepalive_requests 10000000;
    upstream app { server {backend}; keepalive 64; keepalive_requests 10000000; }
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    add_header X-Cache $upstream_cache_status always;
    add_header X-Assigned "button=$variant_button hero=$variant_hero shared=$variant_shared banner=$variant_banner" always;
"""
SERVER = HEAD + """
    server {
        listen 127.0.0.1:{port};
        location = /metrics { experiment_metrics; }
        location / {
            experiment all;
            proxy_cache pages;
            proxy_cache_key %(key)s;
            proxy_cache_valid 200 %(valid)s;
            %(more)s
            proxy_pass http://app;
        }
    }
"""
INWARD = "$uri"                     # isolated by Vary alone
KEYED = "$experiment_cache_key$uri"  # isolated by the variable as well
EDGE_RENDERED = "sub_filter '@@banner@@' '$variant_banner'; sub_filter_last_modified on;"
LOCKED = EDGE_RENDERED + "proxy_cache_lock on; proxy_cache_revalidate on;"
STALE = LOCKED + "proxy_cache_background_update on; proxy_cache_use_stale updating error timeout http_503;"


def conf(key=INWARD, valid="1h", more=""):
    return SERVER % {"key": key, "valid": valid, "more": more}


def told(answer):
    """{'button': 'green', ...} of X-Assigned; only what the visitor is enrolled in."""
    pairs = (part.split("=") for part in answer.header("X-Assigned").split())
    return {key: variant for key, variant in pairs if variant}


def expected(assigned):
    """What the origin was to render for them: control that shares its entry is nobody in particular."""
    shown = {k: v for k, v in assigned.items() if (k, v) != ("shared", "control")}
    return " ".join(f"{key}={shown.get(key, '-')}" for key in KEYS)


class Visitor:
    def __init__(self):
        self.cookies, self.assigned, self.tags = {}, None, {}

    def ask(self, path, rng):
        headers = {}
        self.asked = path
        if path in self.tags and rng.random() < 0.3:
            headers["If-None-Match"] = self.tags[path][0]
        return request(path, self.cookies, headers, "fetch" if self.cookies and rng.random() < 0.2 else "go")

    def see(self, answer):
        assigned = told(answer)
        assert self.assigned in (None, assigned), "a visitor saw two variants"
        self.assigned = assigned
        self.cookies.update(answer.cookies)
        assert answer.header("Cache-Control") == "private, no-cache"
        if answer.status == 304:
            tag, shown, banner = self.tags[self.asked]
            assert answer.header("ETag").removeprefix("W/") == tag.removeprefix("W/")
        else:
            assert answer.status == 200, (answer.status, answer.text)
            path, shown, banner = read(answer.text)
            assert path == self.asked
            self.tags[path] = answer.header("ETag"), shown, banner
        assert (shown, banner) == (expected(assigned), assigned.get("banner", "")), "a body made for somebody else"


def stored(edge):
    """path: bytes of every object in the cache."""
    return {path: path.read_bytes() for path in (edge.folder / "cache").rglob("*") if path.is_file() and path.suffix == ""}


def check_stored(edge, key):
    """What lies on disk has nobody's cookie, and names in key or Vary whom it is for."""
    objects = stored(edge)
    for data in objects.values():
        head, _, body = data.partition(b"\r\n\r\n")
        assert b"set-cookie" not in head.lower() and b"experiment-reward" not in head.lower()
        assert b"Experiment-Cohort" in data[:400]
        assert b"@@banner@@" in body
        if key == KEYED:
            token = re.search(rb"\nKEY: (?:\0([^\0]*)\0)?/", data)[1]
            cohort = dict(part.split(".") for part in (token or b"").decode().split("~") if part)
            assert expected(cohort).encode() in body
    return objects


@pytest.mark.parametrize("policy", [LOCKED, STALE], ids=["lock", "stale"])
@pytest.mark.parametrize("key", [INWARD, KEYED], ids=["vary", "key"])
def test_no_mixing(edges, backend, soak, key, policy):
    backend.reset()
    backend.answer = front = Storefront()
    edge = edges(conf(key, "1s", policy), SPLIT, backend)
    rng = random.Random(20261122)
    visitors = [Visitor() for _ in range(10_000 if soak else 250)]
    todo = [v for v in visitors for _ in range(10)]
    rng.shuffle(todo)
    rounds = 40 if soak else 4
    per_round = -(-len(todo) // rounds)
    paths = [f"/p{i}" for i in range(6)]
    statuses = collections.Counter()
    with Load(edge.port, 32) as load:
        for number in range(rounds):
            began = time.monotonic()
            waiting = todo[number * per_round:(number + 1) * per_round]
            paths.append(f"/cold{number}")
            front.version = number // 2
            front.broken = policy == STALE and number == rounds - 2
            while waiting:
                batch, later, busy = [], [], set()
                for visitor in waiting:
                    (later if visitor in busy or len(batch) == 128 else batch).append(visitor)
                    busy.add(visitor)
                waiting = later
                # A page that is not stored yet has nothing to fall back on.
                some = paths[:6] if front.broken else paths
                answers = load.exchange([visitor.ask(rng.choice(some), rng) for visitor in batch])
                for visitor, answer in zip(batch, answers):
                    statuses[answer.header("X-Cache")] += 1
                    if answer.status == 503 and front.broken:
                        continue  # a cohort that came first while the origin was down
                    visitor.see(answer)
            front.broken = False
            # Entries are to expire between the rounds.
            edge.wait(lambda: time.monotonic() - began > 1.2)
    seen = set(statuses)
    assert {"MISS", "HIT"} < seen and ("STALE" if policy == STALE else "REVALIDATED") in seen, statuses
    assert front.not_modified
    assert len(check_stored(edge, key)) > 12
    counted = edge.metrics()
    for name in ("button", "hero", "shared", "banner"):
        exposed = sum(v for k, v in counted.items() if k.startswith(f'nginx_experiment_exposures_total{{experiment="{name}"'))
        assert exposed == sum(name in v.assigned for v in visitors)
    assert counted["nginx_experiment_not_isolated_total"] == 0


@pytest.mark.parametrize("key", [INWARD, KEYED], ids=["vary", "key"])
def test_newcomers_split_on_a_cached_page(edges, backend, key):
    backend.reset()
    backend.answer = front = Storefront()
    edge = edges(conf(key, more=EDGE_RENDERED), SPLIT, backend)
    count = 1200
    with Load(edge.port) as load:
        for _ in range(4):
            load.exchange([request("/") for _ in range(40)])
        warm = front.pages
        answers = load.exchange([request("/") for _ in range(count)])
    assert front.pages - warm <= 6  # of 2 * 3 * 3 - rare cohorts that had not come yet
    assert sum(answer.header("X-Cache") == "HIT" for answer in answers) >= count - 6
    splits = collections.defaultdict(collections.Counter)
    for answer in answers:
        Visitor.see(visitor := Visitor(), _asked(visitor, answer))
        assert set(answer.cookies) == {"uid", "exp"}
        for name in ("button", "hero", "shared", "banner"):
            splits[name][visitor.assigned.get(name)] += 1
    shares = {"button": {"control": 1 / 3, "green": 1 / 3, "blue": 1 / 3},
              "hero": {"control": 0.3, "big": 0.3, None: 0.4},
              "shared": {"control": 0.5, "new": 0.5}, "banner": {"control": 0.5, "sale": 0.5}}
    for name, share in shares.items():
        for variant, p in share.items():
            assert abs(splits[name][variant] - count * p) < 4 * (count * p * (1 - p)) ** 0.5


def _asked(visitor, answer):
    visitor.asked = "/"
    return answer
