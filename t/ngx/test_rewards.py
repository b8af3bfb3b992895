"""Rewards: by a location, a response header, a beacon; once per unit; to the epoch and arm of the exposure.

Truth is counted by the test.
"""
import collections
import itertools
import json
import random
import threading
import time
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from lib.client import NAVIGATION, Browser, assignments, get
from lib.cookie import experiment_tag, records_of, signed, unit_tag
from lib.edge import document, experiment
from lib.store import counts, totals

CONF = """
    experiment_cohort_max 1000;
    server {
        listen 127.0.0.1:{port};
        location / { experiment all; proxy_pass http://{backend}; }
        location = /thanks { experiment_reward purchase; proxy_pass http://{backend}; }
        location = /landing { experiment all; experiment_reward purchase; proxy_pass http://{backend}; }
        location = /paid {
            experiment_reward purchase; experiment_reward revenue value=$arg_value id=$arg_id;
            return 200 paid;
        }
        location = /added { add_header Experiment-Reward purchase; return 200 added; }
        location /cached/ {
            experiment all; proxy_cache pages; proxy_cache_valid 200 1m;
            experiment_reward revenue value=$upstream_http_x_total id=$upstream_http_x_order;
            add_header X-Cache $upstream_cache_status; proxy_pass http://{backend};
        }
        location /stored/ {
            proxy_cache pages; proxy_cache_valid 200 1m;
            add_header X-Cache $upstream_cache_status; proxy_pass http://{backend};
        }
        location = /e { experiment_beacon; }
        location = /reason { experiment all; return 200 "$experiment_reason_button"; }
        location = /metrics { experiment_metrics; }
    }
"""
ORDER = {"key": "revenue", "kind": "value", "max": 500}
TOTAL = {"key": "revenue", "kind": "value", "per": "total", "max": 500}
PURCHASE = {"key": "purchase", "kind": "conversion"}


def answer(path, headers):
    """?status=404, ?reward=purchase (each a header), ?total=5&order=o-1. The body names the assignments."""
    query = parse_qsl(urlsplit(path).query)
    sent = [("Content-Type", "text/html")] + [("Experiment-Reward", v) for k, v in query if k == "reward"]
    sent += [(name, v) for k, v in query for name in ({"total": "X-Total", "order": "X-Order"}.get(k),)
             if name]
    return int(dict(query).get("status", 200)), sent, (headers.get("Experiment-Assignments") or "").encode()


@pytest.fixture
def made(edges, backend):
    backend.reset()
    backend.answer = answer
    return lambda *experiments, **kwargs: edges(CONF, document(*experiments), backend, **kwargs)


@pytest.fixture
def edge(made):
    return made(experiment("button", goals=[PURCHASE, ORDER]))


def visitor(edge, path="/", **kwargs):
    """Somebody who was exposed."""
    browser = Browser(edge.port, **kwargs)
    browser.variants = assignments(browser.go(path).text)
    return browser


def beacon(browser, body, content_type="application/json", **kwargs):
    text = json.dumps(body) if isinstance(body, (dict, list)) else body
    return browser.fetch("/e", {"Content-Type": content_type}, method="POST", body=text, **kwargs)


def rewarded(edge, goal="purchase", key="button"):
    """Units with a reward, as the metrics have it now."""
    return int(sum(value for line, value in edge.metrics().items()
                   if line.startswith(f'nginx_experiment_rewards_total{{experiment="{key}"')
                   and f'goal="{goal}"' in line))


def dropped(edge, reason, key="button"):
    labels = f'experiment="{key}",reason="{reason}"'
    return int(edge.metrics()["nginx_experiment_rewards_dropped_total{%s}" % labels])


def node(edge, name):
    return int(edge.metrics()[f"nginx_experiment_{name}_total"])


# --- where rewards come from ---------------------------------------------------------------------------


@pytest.mark.parametrize("status,pays", [(200, 1), (201, 1), (204, 1), (302, 1), (304, 1), (400, 0), (404, 0),
                                         (500, 0), (503, 0)])
def test_a_location_rewards_success(edge, status, pays):
    buyer = visitor(edge)
    for _ in range(3):
        assert buyer.go(f"/thanks?status={status}").status == status
    assert rewarded(edge) == pays
    assert dropped(edge, "duplicate") == 2 * pays


def test_a_location_does_not_reward_what_nobody_reached(edge):
    buyer = visitor(edge)
    buyer.go("/thanks", method="HEAD")
    buyer.go("/thanks", {"Sec-Purpose": "prefetch"})
    buyer.go("/thanks", {"User-Agent": "Googlebot/2.1"})
    assert rewarded(edge) == 0
    buyer.go("/thanks", method="POST", body="x=1")
    assert rewarded(edge) == 1


def test_a_location_may_be_page_and_goal(edge):
    for browser in (Browser(edge.port), Browser(edge.port, cookies={"uid": "from-elsewhere"})):
        for _ in range(2):
            browser.go("/landing")
    assert rewarded(edge) == 2
    assert dropped(edge, "unexposed") == 0


@pytest.mark.parametrize("headers,purchases,amount", [
    (["purchase"], 1, None), (["purchase, revenue=19.99"], 1, 1999),
    (['revenue=19.99;id="o-1", purchase;id="o-1"'], 1, 1999),
    (["purchase", "revenue=5"], 1, 500), (["  purchase ,\trevenue=5  "], 1, 500), (['revenue="7.5"'], 0, 750),
    (["purchase;id=o-1;x=1"], 1, None), (["purchase=?1"], 1, None), (["purchase, =bad, revenue=5"], 1, None),
    (["revenue=-5, purchase"], 1, None), (["revenue"], 0, None), (["Purchase"], 0, None),
    (["purchase=("], 0, None),
    (["unheard-of, purchase"], 1, None), ([""], 0, None)])
def test_a_response_header_rewards(edge, headers, purchases, amount):
    buyer = visitor(edge)
    response = buyer.go("/?" + "&".join("reward=" + quote(header) for header in headers))
    assert response.header("Experiment-Reward") is None
    assert (rewarded(edge), rewarded(edge, "revenue")) == (purchases, amount is not None)
    edge.stop()
    (row,) = [row for row in totals(edge, "button").values() if row["n"]]
    assert row["revenue"][1] == (amount or 0)


def test_only_upstream_can_say_so(edge):
    """Neither the client, nor the configuration, nor a stored answer."""
    buyer = visitor(edge)
    buyer.go("/", {"Experiment-Reward": "purchase", "experiment-reward": "purchase"})
    assert buyer.go("/added").text == "added"
    assert rewarded(edge) == 0
    path = "/stored/?reward=purchase"
    assert [buyer.go(path).header("X-Cache") for _ in range(2)] == ["MISS", "MISS"]
    assert rewarded(edge) == 1 and dropped(edge, "duplicate") == 1
    assert node(edge, "not_stored") == 2
    # A location's value was made for the visitor who filled the cache.
    path = "/cached/?total=10&order=o-1"
    assert buyer.go(path).header("X-Cache") == "MISS"
    other = visitor(edge)
    while other.variants != buyer.variants:
        other = visitor(edge)
    response = other.go(path)
    assert response.header("X-Cache") == "HIT"
    assert rewarded(edge, "revenue") == 1 and node(edge, "rewards_replayed") == 1


def test_beacons(edge):
    body = {"goal": "purchase", "value": 19.99}
    revenue = {"goal": "revenue", "value": "19.99"}
    good = [(json.dumps(body), "application/json", 1, 0), (json.dumps(body), "text/plain", 1, 0),
            (json.dumps(body), "text/plain;charset=UTF-8", 1, 0),
            (json.dumps(body), "Application/JSON; charset=utf-8", 1, 0),
            (json.dumps([{"goal": "purchase"}, revenue]), "application/json", 1, 1),
            (json.dumps([{"goal": "purchase"}] + [revenue] * 19), "application/json", 1, 1),
            (json.dumps({"goal": "purchase", "pad": "x" * 4060}), "application/json", 1, 0),
            (json.dumps([7, None, "x", [], {"goal": 7}, {"goal": "purchase"}]), "application/json", 1, 0),
            (json.dumps({**body, "id": "o-1"}), "application/json", 1, 0), ("[]", "application/json", 0, 0)]
    bad = [(json.dumps(body), kind) for kind in ("text/html", "application/x-www-form-urlencoded",
                                                 "application/jsonx", "")]
    bad += [(text, "application/json") for text in (
        "", "{", "purchase", '{"goal":"purchase"', "null", "7", '"purchase"', "{}", '{"goal":null}',
        '{"goal":["purchase"]}',
        '{"goal":"unheard-of"}', '{"goal":"purchase"} x', json.dumps([{"goal": "purchase"}] * 21), "[" * 2000,
        '{"goal":"purchase","id":7}', '{"goal":"purchase","id":"%s"}' % ("x" * 129),
        '{"goal":"revenue","value":null}',
        '{"goal":"revenue","value":true}', '{"goal":"revenue","value":[1]}', '{"goal":"revenue","value":-1}',
        b'{"goal":"purch\xff"}', b"\x00\x01")]
    purchases = revenues = 0
    for text, kind, more, more_revenue in good:
        response = beacon(visitor(edge), text, kind)
        assert (response.status, response.body) == (204, b""), text
        purchases, revenues = purchases + more, revenues + more_revenue
        assert (rewarded(edge), rewarded(edge, "revenue")) == (purchases, revenues), (text, kind)
    for text, kind in bad:
        refused = node(edge, "beacons_refused")
        response = beacon(visitor(edge), text, kind)
        assert (response.status, response.body) == (204, b""), text
        assert (rewarded(edge), rewarded(edge, "revenue")) == (purchases, revenues), text
        assert node(edge, "beacons_refused") == refused + 1, text


def test_beacons_of_other_sizes_and_methods(edge):
    buyer = visitor(edge)
    exactly = json.dumps({"goal": "purchase", "pad": ""})
    exactly = exactly.replace('""', '"%s"' % ("x" * (4096 - len(exactly))))
    assert len(exactly) == 4096
    assert beacon(buyer, exactly + " ").status == 413
    chunks = iter([exactly.encode(), b" " * 5000])  # no length is announced
    assert beacon(buyer, chunks).status == 413
    assert rewarded(edge) == 0
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        assert buyer.fetch("/e", method=method).status == 405
    assert beacon(buyer, exactly).status == 204
    assert beacon(visitor(edge), iter([exactly[:10].encode(), exactly[10:].encode()])).status == 204
    assert rewarded(edge) == 2


def beacon_of_nobody(edge, headers):
    return get(edge.port, "/e", {"Content-Type": "application/json", **headers}, "POST",
               '{"goal":"purchase"}')


def test_rewards_of_the_unexposed(edge):
    assert beacon_of_nobody(edge, {}).status == 204
    assert not beacon_of_nobody(edge, NAVIGATION).cookies
    assert beacon_of_nobody(edge, {"Cookie": "uid=stranger"}).status == 204
    Browser(edge.port).go("/thanks")  # a new visitor's first page is the goal
    ahead = Browser(edge.port)
    ahead.go("/", {"Sec-Purpose": "prefetch"})
    beacon(ahead, {"goal": "purchase"})
    assert rewarded(edge) == 0
    assert dropped(edge, "unexposed") == 5
    ahead.go("/")
    beacon(ahead, {"goal": "purchase"})
    assert rewarded(edge) == 1


def test_ids_count_once(edge):
    """An order that is told by three ways, and by two browsers, is one order."""
    one, two = visitor(edge), visitor(edge)
    for _ in range(2):
        one.go("/paid?value=10&id=o-1")
        one.go("/?reward=" + quote('revenue=10;id="o-1"'))
        beacon(one, {"goal": "revenue", "value": 10, "id": "o-1"})
        beacon(two, {"goal": "revenue", "value": 10, "id": "o-1"})
    assert rewarded(edge, "revenue") == 1
    assert dropped(edge, "duplicate") == 8 - 1 + 1  # and the second purchase of /paid
    beacon(two, {"goal": "revenue", "value": 10, "id": "o-2"})
    assert rewarded(edge, "revenue") == 2


def test_parallel_rewards_of_one_visitor(edge):
    """Eight tabs with one cookie: the filter decides who was first."""
    for number in range(10):
        buyer = visitor(edge)
        tabs = [threading.Thread(target=beacon, args=(Browser(edge.port, dict(buyer.cookies)),
                                                      {"goal": "purchase"}))
                for _ in range(8)]
        for tab in tabs:
            tab.start()
        for tab in tabs:
            tab.join()
        assert rewarded(edge) == number + 1
        replay = Browser(edge.port, dict(buyer.cookies))
        beacon(replay, {"goal": "purchase"})
        assert rewarded(edge) == number + 1


# --- money ---------------------------------------------------------------------------------------------


def minor(text, scale):
    return int(Decimal(text).scaleb(scale).quantize(Decimal(1), ROUND_HALF_EVEN, Context(prec=500)))


def steps(before, x, most):
    """(s+x)^2 - s^2 in steps of max/10^4, rounded."""
    exact = Fraction((before + x) ** 2 - before ** 2, most * most) * 10 ** 8
    return int(exact + Fraction(1, 2))


class Till:
    """S, Q and c of a value goal as the specification has them."""

    def __init__(self, goal):
        self.scale, self.total = goal.get("scale", 2), goal.get("per") == "total"
        self.most = int(Decimal(str(goal["max"])).scaleb(self.scale))
        self.sums = {}  # by unit: row and sum
        self.rows = collections.defaultdict(lambda: [0, 0, 0])

    def pay(self, unit, row, text):
        if unit in self.sums and not self.total:
            return
        before = self.sums.get(unit, 0)
        x = min(minor(text, self.scale), self.most - before)
        cells = self.rows[row]
        cells[0] += unit not in self.sums
        cells[1] += x
        cells[2] += steps(before, x, self.most)
        self.sums[unit] = before + x


AMOUNTS = ["19.99", "0.005", "0.015", "0.025", "2.675", "0", "0.00", "499.995", "500", "500.01", "1e2",
           "1E+1", "1.5e-1", "12.3456789",
           "7", "00012", "1e30", "123456789012345678901234567890", "0.004999999999999999999",
           "0.0050000000000000000001", "1e-400"]


@pytest.mark.parametrize("goal", [
    ORDER, TOTAL, {**TOTAL, "max": 50, "scale": 0}, {**TOTAL, "max": 3, "scale": 6},
    {**ORDER, "max": 33.33, "scale": 2},
    {**TOTAL, "max": 42949672.95}], ids=["first", "total", "whole", "millionths", "odd max", "largest total"])
def test_sums_and_squares(made, goal):
    edge = made(experiment("button", goals=[PURCHASE, goal]),
                experiment("hero", ("a", "b"), goals=[goal], render="edge"))
    tills = {"button": Till(goal), "hero": Till(goal)}
    luck = random.Random(7)
    known = {}
    for number, amount in enumerate(AMOUNTS + ["%.*f" % (luck.randint(0, 4), luck.expovariate(1 / 60))
                                               for _ in range(150)]):
        unit = number if number < 25 else luck.randrange(25)
        buyer = known[unit] = known.get(unit) or visitor(edge)
        way = luck.randrange(4)
        if way == 0:
            beacon(buyer, '{"goal":"revenue","value":"%s"}' % amount)
        elif way == 1:
            buyer.go("/?reward=" + quote(f"revenue={amount}"))
        elif way == 2:
            buyer.go("/paid?value=" + amount)
        else:
            beacon(buyer, [{"goal": "revenue", "value": amount}, {"goal": "unheard-of"}])
        for key, till in tills.items():
            till.pay(unit, key, amount)
    edge.stop()
    for key, till in tills.items():
        cells = [sum(cell) for cell in zip(*(row["revenue"] for row in totals(edge, key).values()))]
        assert cells == till.rows[key]
        assert sum(row["n"] for row in totals(edge, key).values()) == 25
    if goal.get("per") == "total":
        sums = [{r["sum"] for r in records_of(buyer.cookies["exp"])} for buyer in known.values()]
        assert sums == [{tills["button"].sums.get(unit, 0)} for unit in known]


def test_money_lands_in_the_row_of_what_was_shown(made):
    thompson = {"policy": "thompson", "goal": "purchase", "baseline": 0.3}
    edge = made(experiment("button", ("control", "green", "blue"), goals=[PURCHASE, TOTAL],
                           allocation=thompson))
    till, luck = Till(TOTAL), random.Random(3)
    for unit in range(60):
        buyer = Browser(edge.port)
        text = buyer.go("/").text
        row = "@baseline" if "r=baseline" in text else assignments(text)["button"]
        for _ in range(luck.randrange(4)):
            amount = "%.2f" % luck.expovariate(1 / 120)
            beacon(buyer, {"goal": "revenue", "value": float(amount)})
            till.pay(unit, row, amount)
    shown = edge.metrics()
    edge.stop()
    counted = {name: row["revenue"] for name, row in totals(edge, "button").items()}
    assert {name: cells for name, cells in counted.items() if cells[0]} == dict(till.rows)
    assert set(till.rows) == {"@baseline", "control", "green", "blue"}
    for name, (_, total, _) in till.rows.items():
        line = f'nginx_experiment_reward_value_total{{experiment="button",variant="{name}",goal="revenue"}}'
        assert Decimal(str(shown[line])) == Decimal(total).scaleb(-2)
    (status,) = json.loads(edge.ctl("status", "button", "--json").stdout)["experiments"]
    assert {v["key"]: round(v["goals"]["revenue"]["sum"], 2) for v in status["variants"]} == \
        {name: cells[1] / 100 for name, cells in counted.items() if name != "@baseline"}


@pytest.mark.parametrize("value", ["", "abc", "-1", "+1", ".5", "5.", "1,5", "1.2.3", "0x10", "NaN",
                                   "Infinity", "1e", "1e+", "--", "1 2",
                                   "1" * 65])
def test_amounts_that_are_none(edge, value):
    buyer = visitor(edge)
    buyer.go("/paid?value=" + quote(value))
    assert rewarded(edge, "revenue") == 0 and dropped(edge, "refused") == 1
    assert rewarded(edge) == 1, "the conversion beside it counts"
    buyer.go("/paid?value=5")
    assert rewarded(edge, "revenue") == 1, "a refused amount uses nothing up"


# --- who is rewarded -----------------------------------------------------------------------------------


def test_every_experiment_with_the_goal_and_only_those(made):
    edge = made(experiment("button"), experiment("hero", ("a", "b")),
                experiment("other", goals=[{"key": "signup"}]),
                experiment("account-test", unit="account"))
    buyer = visitor(edge)
    beacon(buyer, {"goal": "purchase"})
    assert [rewarded(edge, key=key) for key in ("button", "hero", "account-test")] == [1, 1, 0]
    assert dropped(edge, "unexposed", "account-test") == 1
    assert rewarded(edge, "signup", "other") == 0
    beacon(buyer, {"goal": "unheard-of"})
    assert node(edge, "rewards_unknown") == 1


def test_a_forged_cookie_is_no_cookie(edge):
    """Every byte of it, changed in one bit."""
    buyer = visitor(edge)
    cookie = buyer.cookies["exp"]
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for at in range(len(cookie)):
        forged = cookie[:at] + digits[digits.index(cookie[at]) ^ 1 << at % 6] + cookie[at + 1:]
        thief = Browser(edge.port, {"uid": buyer.cookies["uid"], "exp": forged})
        beacon(thief, {"goal": "purchase"})
        assert node(edge, "cookies_refused") == 2 * at + 1, (cookie, forged)
        answered = thief.go("/reason")
        assert answered.text == "split", "as a new visitor"
        assert answered.all("Set-Cookie"), "who is given a cookie that holds"
    for forged in ("", "x", "AAAA", cookie[:-1], cookie + "A", cookie * 6, "\x7f" * 40, cookie[:-4] + "===="):
        assert Browser(edge.port, {"uid": buyer.cookies["uid"], "exp": forged}).go("/reason").text == "split"
    assert rewarded(edge) == 0
    beacon(buyer, {"goal": "purchase"})
    assert rewarded(edge) == 1


def test_a_cookie_of_another_edge_is_refused(edge, made):
    other = made(experiment("button"))
    stranger = Browser(edge.port, dict(visitor(other).cookies))
    beacon(stranger, {"goal": "purchase"})
    assert rewarded(edge) == 0 and node(edge, "cookies_refused") == 1


def test_a_login_on_a_shared_browser_inherits_nothing(edge):
    """The unit's cookie changes, the assignment cookie stays."""
    for number in range(10):
        browser = Browser(edge.port, {"uid": f"first-{number}"})
        browser.go("/")
        assert unit_tag(f"first-{number}") != unit_tag(f"second-{number}")
        browser.cookies["uid"] = f"second-{number}"
        beacon(browser, {"goal": "purchase"})
        assert rewarded(edge) == 0
        assert browser.go("/reason").text == "split"
        (record,) = records_of(browser.cookies["exp"])
        assert record["unit_tag"] == unit_tag(f"second-{number}") and record["marks"] == 1
    assert dropped(edge, "unexposed") == 10


def record_for(edge, unit, minutes_ago, **changes):
    edge.wait(lambda: (edge.state / "runtime.json").exists())
    runtime = edge.runtime("button")
    made = {"experiment": experiment_tag("button", runtime["generation"]), "unit_tag": unit_tag(unit),
            "arm": 1, "baseline": False,
            "epoch": runtime["epochs"][-1]["id"],
            "first_exposure_10min": int(time.time() - 60 * minutes_ago) // 600, "marks": 1}
    return {**made, **changes}


def test_the_window_runs_from_the_first_exposure(made):
    """The cookie keeps its time in steps of ten minutes, so the last step counts whole."""
    goals = [{"key": "purchase", "window": "1h"}, {"key": "signup", "window": "1d"}]
    edge = made(experiment("button", goals=goals))
    for number, (minutes, purchases, signups) in enumerate([(0, 1, 1), (50, 2, 2), (59, 3, 3), (81, 3, 4),
                                                            (24 * 60 - 1, 3, 5),
                                                            (24 * 60 + 21, 3, 5), (90 * 24 * 60, 3, 5)]):
        unit = f"unit-{number}"
        buyer = Browser(edge.port, {"uid": unit, "exp": signed(edge, [record_for(edge, unit, minutes)])})
        beacon(buyer, [{"goal": "purchase"}, {"goal": "signup"}])
        assert (rewarded(edge), rewarded(edge, "signup")) == (purchases, signups), minutes
    assert dropped(edge, "late") == 4 + 2


def test_a_prefetch_of_long_ago_does_not_start_the_window(made):
    edge = made(experiment("button", goals=[{"key": "purchase", "window": "1h"}]))
    buyer = Browser(edge.port, {"uid": "unit", "exp": signed(edge, [record_for(edge, "unit", 600, marks=0)])})
    assert buyer.go("/reason").text == "sticky"
    beacon(buyer, {"goal": "purchase"})
    assert rewarded(edge) == 1 and dropped(edge, "late") == 0


def test_records_that_the_edge_cannot_place(edge):
    """Signed, but of an epoch, an arm or a generation that is not here: served, never counted elsewhere."""
    for number, changes in enumerate([{"epoch": 7 << 20}, {"epoch": 0}, {"arm": 19}, {"arm": 2}]):
        unit = f"unit-{number}"
        buyer = Browser(edge.port, {"uid": unit, "exp": signed(edge, [record_for(edge, unit, 0, **changes)])})
        assert buyer.go("/").status == 200
        beacon(buyer, {"goal": "purchase"})
    assert rewarded(edge) == 0 and dropped(edge, "late") == 4
    other = record_for(edge, "unit", 0, experiment=experiment_tag("button", 9))
    buyer = Browser(edge.port, {"uid": "unit", "exp": signed(edge, [other])})
    beacon(buyer, {"goal": "purchase"})
    assert dropped(edge, "unexposed") == 1
    edge.stop()
    assert sum(row["n"] for row in totals(edge, "button").values()) == 0


def weighted(green, **fields):
    return experiment("button", ("control", {"key": "green", "weight": green}), **fields)


def test_a_sealed_epoch_takes_nothing(made):
    """An epoch is sealed at its end plus the longest window, here one second; the page stays the same."""
    goals = [{"key": "purchase", "window": "1s"}]
    edge = made(weighted(1, goals=goals))
    early, late = visitor(edge), visitor(edge)
    beacon(early, {"goal": "purchase"})
    edge.define(document(weighted(3, goals=goals)))
    edge.wait_log("epoch .* sealed")
    edge.wait(lambda: edge.metrics()['nginx_experiment_epoch{experiment="button"}'] == 2)
    before = late.variants
    beacon(late, {"goal": "purchase"})
    assert rewarded(edge) == 1 and dropped(edge, "late") == 1
    assert assignments(late.go("/").text) == before
    fresh = visitor(edge)
    beacon(fresh, {"goal": "purchase"})
    edge.stop()
    first, second = counts(edge, "button").values()
    assert [(sum(row["n"] for row in rows), sum(row["purchase"][0] for row in rows))
            for rows in (first, second)] == [(2, 1), (1, 1)]


def test_an_open_epoch_takes_its_own(made):
    """Rewards of before a change of weights go to the epoch of the exposure."""
    edge = made(weighted(1))
    early = [visitor(edge) for _ in range(20)]
    edge.define(document(weighted(9)))
    edge.wait(lambda: edge.metrics()['nginx_experiment_epoch{experiment="button"}'] == 2)
    late = [visitor(edge) for _ in range(10)]
    truth = collections.Counter()
    for epoch, buyers in enumerate((early, late)):
        for buyer in buyers:
            beacon(buyer, {"goal": "purchase"})
            truth[epoch, buyer.variants["button"]] += 1
    edge.stop()
    counted = {(epoch, name): row["purchase"][0] for epoch, rows in enumerate(counts(edge, "button").values())
               for name, row in zip(["@baseline", "control", "green"], rows) if row["n"]}
    assert counted == dict(truth)


def test_a_goal_that_is_added_later(made):
    """It is an epoch of its own: who came before counts for the goals of before."""
    edge = made(experiment("button"), workers=1)
    early = visitor(edge)
    edge.define(document(experiment("button", goals=[PURCHASE, TOTAL, {"key": "signup"}])))
    edge.wait(lambda: 'goal="signup"' in get(edge.port, "/metrics").text)
    late = visitor(edge)
    for buyer in (early, late):
        beacon(buyer, [{"goal": "purchase"}, {"goal": "signup"}, {"goal": "revenue", "value": 3}])
    assert rewarded(edge) == 2 and rewarded(edge, "signup") == 1 and rewarded(edge, "revenue") == 1
    assert dropped(edge, "late") + dropped(edge, "unexposed") == 2
    edge.stop()
    first, second = counts(edge, "button").values()
    assert sum(row["purchase"][0] for row in first) == 1 and set(first[0]) == {"n", "purchase"}
    assert [sum(cells) for cells in zip(*(row["revenue"] for row in second))] == [1, 300, 3600]
    assert sum(row["signup"][0] for row in second) == 1


def test_a_new_generation_forgets(made):
    edge = made(experiment("button"), workers=1)
    early = visitor(edge)
    edge.define(document(experiment("button", salt="another")))
    edge.wait(lambda: edge.runtime("button")["generation"] == 2)
    edge.wait(lambda: early.go("/reason").text == "split")
    beacon(early, {"goal": "purchase"})
    edge.stop()
    (path,) = (edge.state / "counters").glob("*.json")
    stored = json.loads(path.read_text())["state"]["counters"]["button"]
    summed = {generation: [sum(map(int, vector.split(",")[column::2])) for column in (0, 1)]
              for generation, epochs in stored.items() for vector in epochs.values()}
    assert summed == {"1": [1, 0], "2": [1, 1]}


def test_stopped_experiments_are_rewarded_and_killed_ones_are_not(made):
    both = lambda state: document(experiment("button", desired=state), experiment("hero", ("a", "b")))
    edge = made(experiment("button"), experiment("hero", ("a", "b")), workers=1)
    buyers = [visitor(edge) for _ in range(40)]
    edge.define(both("stopped"))
    edge.wait(lambda: buyers[0].go("/reason").text == "stopped")
    assert "button" not in assignments(buyers[0].go("/").text)
    for buyer in buyers[:10]:
        beacon(buyer, {"goal": "purchase"})
    assert rewarded(edge) == 10
    edge.define(both("running"))
    edge.wait(lambda: buyers[0].go("/reason").text == "sticky")
    edge.ctl("kill", "button/green", "--reason", "test", check=True)
    greens = [b for b in buyers[10:] if b.variants["button"] == "green"]
    edge.wait(lambda: greens[0].go("/reason").text == "killed")
    for buyer in buyers[10:]:
        beacon(buyer, {"goal": "purchase"})
    assert rewarded(edge) == 10 + 30 - len(greens) and dropped(edge, "unexposed") == len(greens)
    edge.ctl("kill", "hero", "--reason", "test", check=True)
    edge.wait(lambda: "hero" not in assignments(buyers[0].go("/").text))
    before = rewarded(edge, key="hero")
    beacon(visitor(edge), {"goal": "purchase"})
    assert before == 40 and rewarded(edge, key="hero") == 40
    edge.ctl("resume", "button/green", "--reason", "test", check=True)
    edge.wait(lambda: greens[0].go("/reason").text == "sticky")
    for buyer in greens:
        beacon(buyer, {"goal": "purchase"})
    assert dropped(edge, "duplicate") == 0
    edge.stop()
    assert sum(row["purchase"][0] for row in totals(edge, "button").values()) >= 40


# --- room in the cookie --------------------------------------------------------------------------------


def many(numbers, **changes):
    return document(*(experiment(f"e-{n:02}", render="edge", **changes.get(f"e{n}", {})) for n in numbers))


REASONS = """
    server {
        listen 127.0.0.1:{port};
        location = / { experiment all; return 200 "%s"; }
        location = /e { experiment_beacon; }
        location = /metrics { experiment_metrics; }
    }
""" % " ".join("$experiment_reason_e_%02d" % n for n in range(22))


def reasons(browser):
    return dict(enumerate(browser.go("/").text.split(" ")))


def test_the_21st_experiment_of_a_visitor(edges):
    edge = edges(REASONS, many(range(21)))
    browser = Browser(edge.port)
    assert reasons(browser) == {**dict.fromkeys(range(20), "split"), 20: "cookie_full", 21: "unknown"}
    assert len(browser.cookies["exp"]) <= 512 and len(records_of(browser.cookies["exp"])) == 20
    assert reasons(browser) == {**dict.fromkeys(range(20), "sticky"), 20: "cookie_full", 21: "unknown"}
    beacon(browser, {"goal": "purchase"})
    assert [rewarded(edge, key=f"e-{n:02}") for n in range(21)] == [1] * 20 + [0]
    assert dropped(edge, "unexposed", "e-20") == 1
    # One that is gone from the document gives its room away, the oldest first.
    edge.define(many(range(1, 22)))
    now = edge.wait(lambda: (now := reasons(browser))[21] != "unknown" and now)  # each worker has its own plan
    assert now[0] == "unknown" and (now[20], now[21]) == ("split", "cookie_full")
    tags = {record["experiment"] for record in records_of(browser.cookies["exp"])}
    assert tags == {experiment_tag(f"e-{n:02}", 1) for n in range(1, 21)}


def test_a_sealed_record_gives_its_room_away(edges):
    short = {"goals": [{"key": "purchase", "window": "1s"}]}
    heavier = {**short, "variants": [{"key": "control"}, {"key": "green", "weight": 3}]}
    edge = edges(REASONS, many(range(20), e3=short))
    browser = Browser(edge.port)
    assert reasons(browser)[3] == "split"
    edge.define(many(range(21), e3=heavier))
    edge.wait_log('"e-03": epoch .* sealed')
    now = edge.wait(lambda: (now := reasons(browser))[20] != "unknown" and now)
    assert (now[3], now[20]) == ("sticky", "split")
    tags = {record["experiment"] for record in records_of(browser.cookies["exp"])}
    assert tags == {experiment_tag(f"e-{n:02}", 1) for n in range(21) if n != 3}


def test_totals_leave_room_for_eighteen(edges):
    edge = edges(REASONS, document(*(experiment(f"e-{n:02}", render="edge", goals=[TOTAL])
                                     for n in range(19))))
    browser = Browser(edge.port)
    assert reasons(browser)[17] == "split" and reasons(browser)[18] == "cookie_full"
    assert len(browser.cookies["exp"]) <= 512


# --- units without memory ------------------------------------------------------------------------------


def test_header_units_in_a_fixed_experiment(made):
    edge = made(experiment("account-test", ("a", "b"), unit="account", goals=[PURCHASE, ORDER]),
                experiment("learner", ("a", "b"), unit="account",
                           allocation={"policy": "thompson", "goal": "purchase"}))
    truth = collections.Counter()
    for number in range(40):
        account = {"X-Account": f"account-{number}"}
        if number % 4:
            variant = assignments(get(edge.port, "/", account).text)["account-test"]
            truth[variant] += 1
        for _ in range(2):
            beacon(Browser(edge.port, headers=account), [{"goal": "purchase"},
                                                         {"goal": "revenue", "value": 2}])
    assert dropped(edge, "unexposed", "account-test") == 10 * 4
    assert dropped(edge, "duplicate", "account-test") == 30 * 2
    assert rewarded(edge, key="learner") == 0
    edge.stop()
    counted = totals(edge, "account-test")
    for variant in ("a", "b"):
        n = truth[variant]
        assert counted[variant] == {"n": n, "purchase": [n], "revenue": [n, 200 * n, 1600 * n]}


def test_header_units_when_the_weights_change(made):
    """Each epoch counts them afresh, and credits those whom it counted."""
    edge = made(weighted(1, unit="account"))
    truth = collections.defaultdict(collections.Counter)

    def tell(numbers, epoch, seen):
        for number in numbers:
            account = {"X-Account": f"account-{number}"}
            if seen:
                variant = assignments(get(edge.port, "/", account).text)["button"]
                truth[epoch][variant, "n"] += 1
            if number % 2:
                beacon(Browser(edge.port, headers=account), {"goal": "purchase"})
                truth[epoch][variant if seen else "nobody", "c"] += 1
    tell(range(40), 0, True)
    edge.define(document(weighted(9, unit="account")))
    edge.wait(lambda: edge.metrics()['nginx_experiment_epoch{experiment="button"}'] == 2)
    tell(range(40), 1, False)
    assert dropped(edge, "unexposed") == truth[1].pop(("nobody", "c")) == 20
    tell(range(20, 60), 1, True)
    edge.stop()
    for number, rows in enumerate(counts(edge, "button").values()):
        counted = {(name, what): n for name, row in zip(["control", "green"], rows[1:])
                   for what, n in (("n", row["n"]), ("c", row["purchase"][0]))}
        assert collections.Counter(counted) == truth[number]


def test_ids_are_told_apart_by_goal_and_experiment(made):
    """One order reaches several goals of several experiments."""
    goals = [PURCHASE, ORDER, {"key": "signup"}]
    edge = made(experiment("button", goals=goals), experiment("hero", ("a", "b"), goals=goals))
    events = [{"goal": goal, "id": "o-1", **({"value": 1} if goal == "revenue" else {})}
              for goal in ("purchase", "revenue", "signup")]
    beacon(visitor(edge), events)
    assert all(rewarded(edge, g["key"], key) == 1 for g, key in itertools.product(goals, ("button", "hero")))
