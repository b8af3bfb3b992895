"""Exposures: once per unit, of pages that a person was served, in the row of what was shown.

Truth is counted by the test.
"""
import collections
import json
import pathlib
import random
import re
import sys
import threading
import time
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from lib.client import NAVIGATION, SCRIPT, Browser, get
from lib.edge import document, experiment
from lib.store import counts, totals

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "assignment"))
import assignment_reference as reference  # noqa: E402

CONF = """
    experiment_cohort_max 1000;
    server {
        listen 127.0.0.1:{port};
        location / { experiment all; proxy_pass http://{backend}; }
        location /any/ { experiment all; experiment_types *; proxy_pass http://{backend}; }
        location /json/ { experiment all; experiment_types application/json; proxy_pass http://{backend}; }
        location /off/ { experiment all; experiment_exposure off; proxy_pass http://{backend}; }
        location /asked/ { experiment all; experiment_exposure $arg_count; proxy_pass http://{backend}; }
        location /gone/ { experiment all; return 410 "gone"; }
        location = /reason { experiment all; experiment_exposure off; return 200 $experiment_reason_button; }
        location = /metrics { experiment_metrics; }
    }
"""


def answer(path, headers):
    """What the query asks for: ?status=404&type=text/plain&etag="v1"&served=none."""
    query = dict(parse_qsl(urlsplit(path).query))
    sent = [("Content-Type", query["type"])] if query.get("type") else [("Content-Type", "text/html")]
    if "served" in query:
        sent.append(("Experiment-Served", query["served"]))
    if "etag" in query:
        sent.append(("ETag", query["etag"]))
        if headers.get("If-None-Match") == query["etag"]:
            return 304, sent, b""
    if "location" in query:
        sent.append(("Location", "/"))
    return int(query.get("status", 200)), sent, json.dumps(headers.get("Experiment-Assignments")).encode()


def told(response):
    """{experiment: (variant, epoch, reason)} of a page's body."""
    members = re.findall(r"([a-z0-9-]+)=([a-z0-9-]+);e=(\d+);r=([a-z_]+)", json.loads(response.text) or "")
    return {key: (variant, int(epoch), reason) for key, variant, epoch, reason in members}


def exposures(edge, key="button"):
    """As the metrics have it now."""
    name = f'nginx_experiment_exposures_total{{experiment="{key}",variant='
    return int(sum(value for line, value in edge.metrics().items() if line.startswith(name)))


def decisions(edge, reason, key="button"):
    return edge.metrics().get(f'nginx_experiment_decisions_total{{experiment="{key}",reason="{reason}"}}', 0)


@pytest.fixture
def edge(edges, backend):
    backend.reset()
    backend.answer = answer
    return edges(CONF, document(experiment("button")), backend)


PREFETCH = {"Sec-Purpose": "prefetch"}


def pinned(edge, path="/"):
    """A visitor who has a variant and was not counted yet."""
    visitor = Browser(edge.port)
    visitor.prefetched = visitor.go(path, PREFETCH)
    assert "exp" in visitor.cookies
    return visitor


def test_every_unit_once_in_its_row_and_epoch(edges, backend):
    """300 visitors with 1 to 4 pages each, three experiments, weights that change twice on the way."""
    backend.reset()
    backend.answer = answer

    def definitions(weight):
        thompson = {"policy": "thompson", "goal": "purchase", "baseline": 0.3}
        return document(experiment("button", ({"key": "control"}, {"key": "green", "weight": weight})),
                        experiment("hero", ("a", "b", "c"), allocation=thompson, traffic=0.7),
                        experiment("account-test", ("x", {"key": "y", "weight": weight}), unit="account"))
    edge = edges(CONF, definitions(1), backend)
    truth = collections.Counter()
    luck = random.Random(5)
    for number in range(300):
        if number in (100, 200):
            edge.define(definitions(1 + number / 100))
            edge.wait_log(r'"button": epoch \d+: weights changed', number // 100)
            edge.wait(lambda: len({told(Browser(edge.port).go("/off/"))["button"][1] for _ in range(6)}) == 1)
        visitor, first = Browser(edge.port), {}
        account = {"X-Account": f"account-{number}"} if luck.random() < 0.5 else {}
        for page in range(luck.randint(1, 4)):
            go = visitor.fetch if page and luck.random() < 0.3 else visitor.go
            for key, (variant, epoch, reason) in told(go("/", account)).items():
                first.setdefault(key, ("@baseline" if reason == "baseline" else variant, epoch))
        truth.update((key, epoch, name) for key, (name, epoch) in first.items())
    shown = edge.metrics()
    edge.stop()
    for key, variants in (("button", ["control", "green"]), ("hero", ["a", "b", "c"]),
                          ("account-test", ["x", "y"])):
        names = ["@baseline"] + variants
        counted = {(key, epoch, name): row["n"] for epoch, rows in counts(edge, key).items()
                   for name, row in zip(names, rows)}
        assert {k: n for k, n in counted.items() if n} == {k: n for k, n in truth.items() if k[0] == key}
        assert len({epoch for _, epoch, _ in counted}) == (1 if key == "hero" else 3)
        by_name = {name: sum(n for (k, _, v), n in truth.items() if (k, v) == (key, name)) for name in names}
        for name, n in by_name.items():
            line = f'nginx_experiment_exposures_total{{experiment="{key}",variant="{name}"}}'
            assert shown.get(line, 0) == n
        (status,) = json.loads(edge.ctl("status", key, "--json").stdout)["experiments"]
        assert {v["key"]: v["exposures"] for v in status["variants"]} == {v: by_name[v] for v in variants}
        assert status["baseline"]["exposures"] == by_name["@baseline"]


COUNTED = [
    ("/", {}), ("/?type=text/html;charset=utf-8", {}), ("/?status=404", {}), ("/?status=500", {}),
    ("/?status=503", {}),
    ("/?status=302&location=1", {}), ("/gone/", {}),
    ("/any/?type=application/json", {}), ("/any/?type=text/html", {}), ("/json/?type=application/json", {}),
    ("/asked/?count=1", {}), ("/asked/?count=yes", {}),
    ("/?etag=%22v1%22", "etag"),
    ("/?type=text/html", SCRIPT),
    ("/", {"User-Agent": "Mozilla/5.0 (Linux; Android 12; CUBOT NOTE 30) AppleWebKit/537.36"}),
    ("/", {"User-Agent": "Mozilla/5.0 (Linux; Android 9; CUBOT_P20 Build/PPR1.180610.011; wv)"}),
    ("/", {"User-Agent": "Robin's phone"}), ("/", {"Purpose": "view"}), ("/", {"Sec-Purpose": "navigate"}),
]
NOT_COUNTED = [
    ("/?type=text/plain", {}), ("/?type=application/json", {}), ("/?type=text/htmlx", {}),
    ("/?status=204", {}),
    ("/json/?type=text/css", {}), ("/off/", {}), ("/asked/", {}), ("/asked/?count=0", {}),
    ("/asked/?count=off", {}),
    ("/", PREFETCH), ("/", {"Sec-Purpose": "prefetch;prerender"}),
    ("/", {"Sec-Purpose": "prefetch;anonymous-client-ip"}),
    ("/", {"Purpose": "prefetch"}), ("/", {"X-Moz": "prefetch"}),
    ("/", {"X-Purpose": "preview", "Purpose": "prefetch"}),
    ("/?etag=%22v1%22", "script etag"),
    *(("/", {"User-Agent": agent}) for agent in [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0) Chrome/103.0.5060.134",
        "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
        "Mozilla/5.0 (compatible; Baiduspider/2.0)", "facebookexternalhit/1.1", "Mediapartners-Google",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0.0.0",
        "Mozilla/5.0 Chrome-Lighthouse", "Pingdom.com_bot_version_1.4", "python-requests/2.31", "HTTrack 3.0",
        "AHREFSBOT", "GPTBot/1.2", "CubotBot/1.0 (a bot after all)"]),
]


@pytest.mark.parametrize("cases,each", [(COUNTED, 1), (NOT_COUNTED, 0)], ids=["counted", "not counted"])
def test_what_is_an_exposure(edge, cases, each):
    """Each case is asked of a visitor who has a variant; then a plain page counts whom the case did not."""
    for number, (path, headers) in enumerate(cases):
        etag = "etag" in headers if isinstance(headers, str) else False
        visitor = pinned(edge, path if etag else "/")
        assert exposures(edge) == number, (path, headers)
        go = visitor.fetch if headers == "script etag" else visitor.go
        if etag:
            headers = {"If-None-Match": visitor.prefetched.header("ETag")}
            assert (response := go(path, headers)).status == 304
        else:
            response = go(path, headers)
        assert exposures(edge) == number + each, (path, headers, response)
        visitor.go("/")
        visitor.go("/")
        assert exposures(edge) == number + 1, (path, headers)


def test_methods(edge):
    visitor = pinned(edge)
    visitor.go("/", method="HEAD")
    visitor.fetch("/", method="HEAD")
    visitor.go("/", method="OPTIONS")
    assert exposures(edge) == 0
    visitor.go("/", method="POST", body="a=1")
    assert exposures(edge) == 1
    # A first request that is not a navigation enrols nobody, and so counts nobody.
    for method in ("HEAD", "POST"):
        stranger = Browser(edge.port)
        stranger.go("/", method=method)
        assert not stranger.cookies
    assert exposures(edge) == 1


def test_a_304_that_nginx_makes_itself_counts(edges, backend):
    edge = edges("""server { listen 127.0.0.1:{port}; root {folder}/pages; location / { experiment all; }
                    location = /metrics { experiment_metrics; } }""", document(experiment("button")),
                 start=False)
    (edge.folder / "pages").mkdir(mode=0o755)
    (edge.folder / "pages" / "page.html").write_text("<p>page</p>")
    edge.folder.chmod(0o755)
    edge.configure("""types { text/html html; }
                    server { listen 127.0.0.1:{port}; root {folder}/pages; location / { experiment all; }
                    location = /metrics { experiment_metrics; } }""")
    edge.start()
    visitor = pinned(edge, "/page.html")
    tag = {"If-None-Match": visitor.prefetched.header("ETag")}
    assert visitor.go("/page.html", tag).status == 304
    assert exposures(edge) == 1
    visitor.go("/page.html")
    assert exposures(edge) == 1


@pytest.mark.parametrize("served,counts_as", [
    ("button={variant}", True), ("button={other}", False), ("none", False), ("", False), ("hero=a", False),
    ("hero=a, button={variant};note=1", True), ("button={variant}x", False), ("xbutton={variant}", False),
    ("button={variant},hero=b", True), ("Button={variant}", False)])
def test_what_the_backend_says_that_it_served(edge, served, counts_as):
    visitor = pinned(edge)
    variant = told(visitor.go("/off/"))["button"][0]
    other = {"control": "green", "green": "control"}[variant]
    says = quote(served.format(variant=variant, other=other))
    response = visitor.go("/?note=1&served=" + says) if says else visitor.go("/?served=%20")
    assert response.header("Experiment-Served") is None
    assert exposures(edge) == counts_as
    visitor.go("/")
    assert exposures(edge) == 1


def test_an_edge_rendered_experiment_counts_whatever_the_origin_says(edges, backend):
    backend.reset()
    backend.answer = answer
    edge = edges(CONF, document(experiment("button"), experiment("hero", render="edge")), backend)
    Browser(edge.port).go("/?served=none")
    assert (exposures(edge), exposures(edge, "hero")) == (0, 1)


def test_bots_are_not_enrolled(edge):
    bot, agent = Browser(edge.port), {"User-Agent": "Googlebot/2.1"}
    assert bot.go("/reason", agent).text == "bot"
    assert told(bot.go("/", agent)) == {} and not bot.cookies
    edge.wait(lambda: decisions(edge, "bot") == 2)


def test_first_requests_at_the_same_time(edge):
    """Tabs that open together: one unit, no assignment cookie yet."""
    for number in range(15):
        barrier = threading.Barrier(8)
        variants = []

        def open_tab():
            barrier.wait()
            response = get(edge.port, "/", {**NAVIGATION, "Cookie": f"uid=tabs-{number}"})
            variants.append(told(response)["button"][0])
        tabs = [threading.Thread(target=open_tab) for _ in range(8)]
        for tab in tabs:
            tab.start()
        for tab in tabs:
            tab.join()
        assert len(variants) == 8 and len(set(variants)) == 1
        assert exposures(edge) == number + 1


def test_a_cookie_without_the_mark_counts_nobody_twice(edge):
    visitor = pinned(edge)
    unmarked = dict(visitor.cookies)
    visitor.go("/")
    assert visitor.cookies != unmarked and exposures(edge) == 1
    for _ in range(3):
        replay = Browser(edge.port, cookies=dict(unmarked))
        replay.go("/")
        assert replay.cookies["exp"] != unmarked["exp"], "the mark is written again"
    forgot = Browser(edge.port, cookies={"uid": visitor.cookies["uid"]})
    assert told(forgot.go("/"))["button"][0] == told(visitor.go("/"))["button"][0]
    assert exposures(edge) == 1


def test_the_cookie_is_written_only_when_it_changes(edge):
    visitor = Browser(edge.port)
    assert len(visitor.go("/").all("Set-Cookie")) == 2
    for _ in range(3):
        assert visitor.go("/").all("Set-Cookie") == []


def test_marks_outlive_reload_and_restart(edge):
    visitors = [Browser(edge.port) for _ in range(10)]
    for visitor in visitors:
        visitor.go("/")
    edge.reload()
    for visitor in visitors:
        visitor.go("/")
    assert exposures(edge) == 10
    edge.stop()
    edge.start()
    for visitor in visitors:
        assert told(visitor.go("/"))["button"][2] == "sticky"
    Browser(edge.port).go("/")
    edge.stop()
    total = totals(edge, "button")
    assert sum(row["n"] for row in total.values()) == 11


def test_units_without_memory(edges, backend):
    """A fixed experiment counts a header unit once; an adaptive one shows the document's weights."""
    backend.reset()
    backend.answer = answer
    adaptive = {"policy": "thompson", "goal": "purchase"}
    edge = edges(CONF, document(experiment("account-test", ("a", "b"), unit="account"),
                                experiment("learner", ("a", "b"), unit="account", allocation=adaptive)),
                 backend)
    truth = collections.Counter()
    for number in range(60):
        seen = [get(edge.port, "/", {"X-Account": f"account-{number}"}) for _ in range(3)]
        assert len({response.text for response in seen}) == 1
        assert not any(response.cookies for response in seen)
        now = told(seen[0])
        assert now["account-test"][2] == "split"
        assert '"learner=' in seen[0].text or ', learner=' in seen[0].text
        truth[now["account-test"][0]] += 1
    edge.wait(lambda: decisions(edge, "no_memory", "learner") == 180)
    edge.stop()
    assert {name: row["n"] for name, row in totals(edge, "account-test").items() if row["n"]} == dict(truth)
    assert counts(edge, "learner") == {}


def test_units_that_nothing_can_remember_are_not_counted(edge):
    script = Browser(edge.port)
    assert told(script.fetch("/")) == {} and not script.cookies
    assert exposures(edge) == 0
    # Without Sec-Fetch headers a page is what asks for HTML.
    old = Browser(edge.port)
    old.request("/", {"Accept": "text/html,*/*"})
    assert set(old.cookies) == {"uid", "exp"} and exposures(edge) == 1
    image = Browser(edge.port)
    image.request("/", {"Accept": "image/*"})
    image.request("/", {"Accept": "text/html", "Sec-Fetch-Dest": "image"})
    image.request("/", {"Accept": "text/html", "Sec-Fetch-Mode": "cors"})
    assert not image.cookies and exposures(edge) == 1
    # A unit of another system is remembered from its first page on, not before.
    given = Browser(edge.port, cookies={"uid": "from-elsewhere"})
    assert told(given.fetch("/")) == {} and set(given.cookies) == {"uid"}
    given.go("/")
    assert set(given.cookies) == {"uid", "exp"} and exposures(edge) == 2


@pytest.mark.parametrize("unit", ["x" * 257, "x" * 300, ""])
def test_a_unit_cookie_that_is_none(edge, unit):
    visitor = Browser(edge.port, cookies={"uid": unit})
    visitor.go("/")
    assert len(visitor.cookies["uid"]) == 22
    assert exposures(edge) == 1


GATED = ["draft-one", "off-one", "stopped-one", "frozen-one", "ramped", "sliced-a", "sliced-b", "done",
         "weighted"]
GATES = """
    experiment_cohort_max 100000;
    server {
        listen 127.0.0.1:{port};
        location = / { experiment all; return 200 "%s"; }
        location = /page { experiment all; proxy_pass http://{backend}; }
        location = /metrics { experiment_metrics; }
    }
""" % " ".join(f"{key}=$variant_{name}/$experiment_reason_{name}/$experiment_propensity_{name}"
               for key in GATED for name in [key.replace("-", "_")])


def gated(traffic=0.3, **changes):
    def made(key, **fields):
        return experiment(key, ("control", "green"), unit="account",
                          **{**fields, **changes.get(key.replace("-", "_"), {})})
    return document(
        made("draft-one", desired="draft"), made("off-one", targeting={"all": [{"device": "mobile"}]}),
        made("stopped-one", desired="stopped"), made("frozen-one", desired="frozen"),
        made("ramped", traffic=traffic, salt="ramp"),
        made("sliced-a", layer="checkout", slice=[0, 0.25]),
        made("sliced-b", layer="checkout", slice=[0.25, 0.7]),
        made("done", desired="concluded", winner="green", holdback=0.2),
        experiment("weighted", ({"key": "control", "weight": 1}, {"key": "green", "weight": 3},
                                {"key": "none-yet", "weight": 0}),
                   unit="account"),
        holdout=0.1, layers=[{"key": "checkout", "salt": "another", "holdout": 0.15}])


def draw(salt, purpose, unit):
    return reference.draw(reference.seed_of(salt, purpose), reference.unit_hash(unit))


def expected(key, unit, traffic=0.3):
    """variant/reason/propensity by the specification alone."""
    fixed = {"draft-one": "draft", "off-one": "not_in_build", "stopped-one": "stopped"}
    if key in fixed:
        return f"/{fixed[key]}/"
    if key == "done":
        return "/holdback/" if reference.below(draw(key, "holdback", unit), 0.2) else "green/concluded/"
    if reference.below(draw("", "holdout", unit), 0.1):
        return "/holdout/"
    if key.startswith("sliced"):
        if reference.below(draw("another", "holdout", unit), 0.15):
            return "/holdout/"
        begin, end = (0, 2500) if key == "sliced-a" else (2500, 7000)
        if not begin <= reference.slot(draw("another", "layer", unit)) < end:
            return "/layer/"
    if key == "frozen-one":
        return "/frozen/"
    salt = "ramp" if key == "ramped" else key
    if key == "ramped" and not reference.below(draw(salt, "traffic", unit), traffic):
        return "/traffic/"
    weights = (1, 3, 0) if key == "weighted" else (1, 1)
    quotas = reference.quotas_of(weights)
    arm = reference.first_table(quotas)[reference.slot(draw(salt, "arm", unit))]
    return f"{('control', 'green', 'none-yet')[arm]}/split/{quotas[arm] / 10000:.4f}"


def test_gates_are_what_the_specification_says(edges, backend):
    """300 accounts: variant, reason and propensity, what the backend hears, and who is counted."""
    backend.reset()
    backend.answer = answer
    edge = edges(GATES, gated(), backend)
    edge.wait_log('targeting: not in this build .targeting.; experiment "off-one" is off')
    truth, reasons_met = collections.Counter(), collections.Counter()
    for number in range(300):
        account = f"account-{number}"
        wanted = {key: expected(key, account) for key in GATED}
        text = get(edge.port, "/", {"X-Account": account}).text
        assert dict(item.split("=") for item in text.split(" ")) == wanted, account
        heard = told(get(edge.port, "/page", {"X-Account": account}))
        assert {key: value[0] for key, value in heard.items()} == \
            {key: value.split("/")[0] for key, value in wanted.items() if not value.startswith("/")
             and "concluded" not in value}
        for key, value in wanted.items():
            variant, reason, _ = value.split("/")
            truth[key, variant] += reason == "split"
            reasons_met[key, reason] += 2
    for (key, reason), times in reasons_met.items():
        off = key in ("draft-one", "off-one", "stopped-one")  # for everyone: nothing is decided
        edge.wait(lambda: decisions(edge, reason, key) == (0 if off else times))
    edge.stop()
    for key in ("ramped", "sliced-a", "sliced-b", "weighted"):
        counted = {name: row["n"] for name, row in totals(edge, key).items() if row["n"]}
        assert counted == {variant: n for (k, variant), n in truth.items() if k == key and n}
    stored = json.loads(next((edge.state / "counters").glob("*.json")).read_text())["state"]["counters"]
    assert set(stored) == {"ramped", "sliced-a", "sliced-b", "weighted"}


def test_a_ramp_moves_nobody(edges):
    """Those who were in stay where they were; those who come in are where they would have been."""
    edge = edges(GATES, gated(0.05), workers=1)
    accounts = [f"account-{number}" for number in range(150)]

    def look():
        return {a: dict(i.split("=") for i in get(edge.port, "/", {"X-Account": a}).text.split(" "))["ramped"]
                for a in accounts}
    enrolled = 0
    for traffic in (0.05, 0.2, 0.6, 1, 0):
        edge.define(gated(traffic))
        edge.wait(lambda: look() == {account: expected("ramped", account, traffic) for account in accounts})
        enrolled = sum("split" in told for told in look().values()) if traffic else enrolled
    assert enrolled > 100


def test_states_of_visitors_who_have_a_variant(edges, backend):
    """The enrolled keep theirs while frozen; other states win over memory; what comes back is what was."""
    backend.reset()
    backend.answer = answer
    edge = edges(CONF, document(experiment("button")), backend, workers=1)
    old, variants = [Browser(edge.port, {"uid": f"visitor-{n}"}) for n in range(12)], []
    for visitor in old:
        variants.append(told(visitor.go("/"))["button"][0])
    assert set(variants) == {"control", "green"}
    page = {"stopped": "stopped", "archived": "stopped", "draft": "draft"}
    for desired in ("frozen", "stopped", "frozen", "archived", "draft", "running"):
        edge.define(document(experiment("button", desired=desired)))
        new = Browser(edge.port)
        fresh = page.get(desired, {"frozen": "frozen", "running": "split"}.get(desired))
        edge.wait(lambda: Browser(edge.port).go("/reason").text == fresh)
        if desired != "running":
            assert told(new.go("/")) == {}
        for visitor, variant in zip(old, variants):
            seen = told(visitor.go("/"))
            wanted = set() if desired in page else {(variant, "sticky")}
            assert {(shown, reason) for shown, _, reason in seen.values()} == wanted
    edge.define(document(experiment("button", desired="concluded", winner="green", holdback=0.5)))
    edge.wait(lambda: Browser(edge.port).go("/reason").text in ("concluded", "holdback"))
    met = {visitor.go("/reason").text for visitor in old + [Browser(edge.port) for _ in range(12)]}
    assert met == {"concluded", "holdback"}
    edge.stop()
    total = totals(edge, "button")
    counted = {name: row["n"] for name, row in total.items() if row["n"]}
    assert counted == dict(collections.Counter(variants)), \
        "pages of an experiment that does not run count nobody"


OFF = """
    server {
        listen 127.0.0.1:{port};
        location = / { experiment all; return 200 "$variant_button|$variant_hero|$experiment_reason_hero"; }
        location = /page {
            experiment all; add_header X-V "$variant_hero$variant_button"; proxy_pass http://{backend};
        }
        location = /elsewhere { experiment other; return 200 "$experiment_reason_hero"; }
        location = /metrics { experiment_metrics; }
    }
"""


@pytest.mark.parametrize("desired", ["draft", "stopped", "archived"])
def test_nothing_is_live(edges, backend, desired):
    """Several variables, and requests to a backend, where no experiment of a placement runs or is defined."""
    backend.reset()
    backend.answer = answer
    two = document(experiment("button", desired=desired), experiment("hero", desired=desired))
    edge = edges(OFF, two, backend)
    reason = {"archived": "stopped"}.get(desired, desired)
    for _ in range(3):
        assert get(edge.port, "/", {"X-Account": "a"}).text == f"||{reason}"
        assert told(get(edge.port, "/page", {"X-Account": "a"})) == {}
    assert get(edge.port, "/elsewhere", {"X-Account": "a"}).text == "unknown"
    edge.define(document(experiment("other", unit="account")))
    edge.wait(lambda: get(edge.port, "/", {"X-Account": "a"}).text == "||unknown")
    assert get(edge.port, "/elsewhere", {"X-Account": "a"}).text == "unknown"


def test_a_variant_comes_while_accounts_are_served(edges, backend):
    """The zone's table knows the new arm before a worker's plan does."""
    backend.reset()
    backend.answer = answer
    variants = ["control", "green"]
    edge = edges(OFF, document(experiment("hero", variants, unit="account")), backend)
    edge.wait(lambda: all(get(edge.port, "/", {"X-Account": "a"}).text.endswith("split") for _ in range(50)))
    met = set()
    for name in ("blue", "red", "pink"):
        variants.append(name)
        edge.define(document(experiment("hero", variants, unit="account")))
        end = time.monotonic() + 20
        while name not in met:
            assert time.monotonic() < end
            for number in range(50):
                text = get(edge.port, "/", {"X-Account": f"account-{number}"}).text
                assert text.startswith("|") and text.split("|")[2] in ("split", "variant_gone"), text
                met.add(text.split("|")[1])
    assert met >= set(variants)
