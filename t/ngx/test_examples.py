"""conf-examples/ and the README's nginx.conf, but for ports and paths as they stand; names in docs/nginx.md."""
import json
import re
import subprocess
from collections import Counter

import pytest
from lib.backend import Backend
from lib.client import NAVIGATION, Browser, assignments, get
from lib.edge import CTL, ROOT
from lib.examples import EXAMPLES, start

VISITORS = 300


def run(edges, conf, definitions, backend, second=None):
    edge = edges("", definitions, backend, start=False)
    return start(edge, conf, {"127.0.0.1:8080": backend.address,
                              "127.0.0.1:8081": second.address if second else "127.0.0.1:1"})


def example(edges, name, *backends):
    folder = EXAMPLES / name
    conf, definitions = (folder / "nginx.conf").read_text(), (folder / "definitions.json").read_text()
    return run(edges, conf, definitions, *backends)


def visitor(edge, number):
    """The same number is the same visitor in every run."""
    return Browser(edge.port, {"uid": f"visitor-{number}"})


def split_of(edge, key, pages=("/",), visitors=VISITORS):
    """Each visitor opens every page twice and must see one variant. The pages tell Experiment-Assignments."""
    seen = Counter()
    for number in range(visitors):
        browser = visitor(edge, number)
        told = [json.loads(browser.go(path).text)["assignments"] for path in (*pages, *pages)]
        variants = {assignments(text)[key] for text in told}
        assert len(variants) == 1
        seen.update(variants)
    return seen


def assert_shares(seen, **shares):
    """Within 4 sigma of a fair draw."""
    total = sum(seen.values())
    assert set(seen) <= set(shares)
    for variant, share in shares.items():
        assert abs(seen[variant] - total * share) <= 4 * (total * share * (1 - share)) ** 0.5, (variant, seen)


def rewards(edge, key, goal):
    """{'green': 3} of a goal, the baseline as "@baseline"."""
    name = r'nginx_experiment_rewards_total{experiment="%s",variant="([^"]*)",goal="%s"}'
    line = re.compile(name % (key, goal))
    found = {line.fullmatch(name): value for name, value in edge.metrics(edge.port2).items()}
    return {match[1]: value for match, value in found.items() if match}


def page(body=b"<!--banner-->", **more):
    """A backend's page that says which variant it was made for; caches may keep it."""
    def answer(path, headers):
        told = assignments(headers.get("Experiment-Assignments"))
        made_for = ",".join(f"{key}={variant}" for key, variant in sorted(told.items()))
        sent = [("Content-Type", "text/html"), ("ETag", '"1"'), *more.items()]
        return 200, sent, f"[{made_for}]".encode() + body
    return answer


def test_every_example_has_a_good_document():
    folders = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
    assert folders == ["cached-bandit", "canary-by-upstream", "edge-rendered", "fleet", "minimal-split"]
    for folder in folders:
        document = EXAMPLES / folder / "definitions.json"
        done = subprocess.run([str(CTL), "check", str(document)], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def test_minimal_split(edges, backend):
    backend.reset()
    edge = example(edges, "minimal-split", backend)
    assert_shares(split_of(edge, "headline", ("/", "/pricing")), long=0.5, short=0.5)
    browser = visitor(edge, 0)
    variant = assignments(json.loads(browser.go("/").text)["assignments"])["headline"]
    assert json.loads(browser.go("/account/").text)["assignments"] == "none"
    for _ in range(3):
        browser.go("/welcome")
    assert rewards(edge, "headline", "signup") == {v: float(v == variant) for v in ("long", "short")}


def test_a_newcomer_of_the_minimal_split_keeps_the_variant(edges, backend):
    backend.reset()
    edge = example(edges, "minimal-split", backend)
    newcomer = Browser(edge.port)
    first = json.loads(newcomer.go("/").text)["assignments"]
    assert set(newcomer.cookies) == {"uid", "exp"} and assignments(first)
    told = assignments(json.loads(newcomer.go("/pricing").text)["assignments"])
    assert told == assignments(first)


def test_cached_bandit_serves_each_variant_its_own_page(edges, backend):
    backend.reset()
    backend.answer = page()
    edge = example(edges, "cached-bandit", backend)
    seen = Counter()
    for number in range(VISITORS):
        browser = visitor(edge, number)
        texts = {browser.go("/").text, browser.go("/").text}
        assert len(texts) == 1
        seen.update([re.fullmatch(r"\[checkout-button=([a-z]+)\]<!--banner-->", texts.pop())[1]])
    assert_shares(seen, control=0.1 + 0.9 / 3, green=0.3, orange=0.3)
    assert len(backend.requests) == 3  # one for each entry, all other answers came from the cache
    bot = get(edge.port, "/", {**NAVIGATION, "User-Agent": "Examplebot/1.0"})
    assert bot.text == "[]<!--banner-->"  # whoever is not enrolled has an entry of their own


def test_cached_bandit_learns_from_orders(edges, backend):
    """Warm-up and epochs are cut to seconds; orange sells to every second visitor, the others hardly."""
    backend.reset()

    def answer(path, headers):
        order = {"X-Order-Total": "19.90", "X-Order-Id": headers["X-Number"]} if path == "/thanks" else {}
        return page(**order)(path, headers)
    backend.answer = answer
    folder = EXAMPLES / "cached-bandit"
    definitions = json.loads((folder / "definitions.json").read_text())
    warm_up = {"exposures": 30, "successes": 1, "for": "0s"}
    definitions["experiments"][0]["allocation"].update(min_epoch="1s", warm_up=warm_up)
    edge = run(edges, (folder / "nginx.conf").read_text(), json.dumps(definitions), backend)
    number, orders = 0, 0

    def share():
        name = 'nginx_experiment_allocation_ratio{experiment="checkout-button",variant="orange"}'
        return edge.metrics(edge.port2)[name]

    def visit():
        nonlocal number, orders
        for _ in range(40):
            number += 1
            browser = visitor(edge, number)
            variant = re.match(r"\[checkout-button=([a-z]+)", browser.go("/").text)[1]
            if number % (2 if variant == "orange" else 15) == 0:
                browser.go("/thanks", {"X-Number": str(number)})
                orders += 1
        return share() > 0.6
    edge.wait(visit, step=0)
    purchases = rewards(edge, "checkout-button", "purchase")
    assert sum(purchases.values()) == orders and rewards(edge, "checkout-button", "revenue") == purchases
    paid = sum(value for name, value in edge.metrics(edge.port2).items() if "_reward_value_total{" in name)
    assert paid == pytest.approx(19.90 * orders)


def test_canary_by_upstream(edges):
    stable, canary = Backend(), Backend()
    stable.answer = lambda path, headers: (200, [("Content-Type", "text/html")], b"stable")
    canary.answer = lambda path, headers: (200, [("Content-Type", "text/html")], b"canary")
    try:
        edge = example(edges, "canary-by-upstream", stable, canary)
        browsers = [visitor(edge, number) for number in range(VISITORS)]
        release = [browser.go("/").text for browser in browsers]
        assert_shares(Counter(release), stable=0.95, canary=0.05)
        # Scripts and pictures of a page come from its release.
        moved = [(browser.cookies, page, script) for browser, page in zip(browsers, release)
                 if (script := browser.fetch("/app.js").text) != page]
        assert moved == []
        lucky = release.index("canary")
        assert visitor(edge, lucky).fetch("/app.js").text == "stable"  # a script before the first page
        in_canary = browsers[lucky]
        edge.kill_file.write_text("release/canary\n")
        edge.wait(lambda: in_canary.go("/").text == "stable")
        edge.wait(lambda: all(browser.go("/").text == "stable" for browser in browsers), step=0)
    finally:
        stable.close()
        canary.close()


def test_edge_rendered_keeps_a_single_cached_body(edges, backend):
    backend.reset()
    backend.answer = page()
    edge = example(edges, "edge-rendered", backend)
    texts = {"[]": "plain", '[]<p class="banner">Free delivery this week</p>': "free",
             '[]<p class="banner">At your door tomorrow</p>': "tomorrow"}
    seen, tags = Counter(), {}
    for number in range(VISITORS):
        browser = visitor(edge, number)
        first, again = browser.go("/"), browser.go("/")
        assert first.text == again.text
        variant = texts[first.text]
        seen[variant] += 1
        assert tags.setdefault(variant, first.header("ETag")) == first.header("ETag")
        assert first.header("Cache-Control") == "private, no-cache"
    assert_shares(seen, plain=1 / 3, free=1 / 3, tomorrow=1 / 3)
    assert len(set(tags.values())) == 3
    # One entry for everybody, and the origin is told of nobody. It may be asked again before the entry is on the disk.
    assert len(backend.requests) <= 4 < VISITORS
    assert {headers["Experiment-Assignments"] for _, headers in backend.requests} == {"none"}
    assert {headers["Experiment-Cohort"] for _, headers in backend.requests} == {"-"}
    stored = [path for path in (edge.folder / "cache").rglob("*") if path.is_file()]
    assert len(stored) == 1 and b"<!--banner-->" in stored[0].read_bytes()


def readme_block(language):
    return re.search(rf"^```{language}\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)[1]


def test_the_configuration_in_the_readme(edges, backend):
    backend.reset()
    backend.answer = page()
    conf = readme_block("nginx")
    assert conf.count("\n") == 10
    assert conf.count("server {\n") == 1
    more = "listen 80; listen 127.0.0.1:9145; location = /metrics { experiment_metrics; }\n"
    conf = conf.replace("server {\n", "server {\n" + more)
    edge = run(edges, conf, readme_block("json"), backend)
    seen = Counter()
    for number in range(VISITORS):
        browser = visitor(edge, number)
        first = browser.go("/").text
        assert browser.go("/").text == first
        seen[re.search(r"checkout-button=([a-z]+)", first)[1]] += 1
    assert_shares(seen, control=0.55, green=0.45)
    # An entry for each variant; without a cache lock a page may be asked for again before its entry is on the disk.
    asked = Counter(headers["Experiment-Cohort"] for _, headers in backend.requests)
    assert len(asked) == 2 and max(asked.values()) <= 4 < VISITORS
    browser.go("/thanks")
    browser.go("/thanks")
    assert sum(rewards(edge, "checkout-button", "purchase").values()) == 1


def names(path, pattern):
    return set(re.findall(pattern, (ROOT / path).read_text(), re.M))


def section(title):
    text = (ROOT / "docs" / "nginx.md").read_text()
    return re.search(rf"^## {title}$(.*?)(?=^## |\Z)", text, re.M | re.S)[1]


def test_the_reference_has_every_directive_variable_and_reason():
    directives = names("ngx_module/directives.cpp", r'^ +\{ngx_string\("(experiment\w*)"\)')
    assert len(directives) == 15 and names("docs/nginx.md", r"^### (\w+)$") == directives
    registered = names("ngx_module/variables.cpp", r'\{ngx_string\("(\w+)"\)')
    variables = {name + "KEY" if name.endswith("_") else name for name in registered}
    told = re.findall(r"^\| `\$(\w+)`", section("Embedded variables"), re.M)
    assert len(variables) == 8 and set(told) == variables
    tokens = re.search(r"kReasonTokens\{(.*?)\}", (ROOT / "bandit" / "rule.cpp").read_text(), re.S)[1]
    rows = re.findall(r"^\|([^|]*)\|", section("Reasons"), re.M)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(re.findall(r'"(\w+)"', tokens))


def test_the_reference_has_every_metric(edges, backend):
    backend.reset()
    edge = example(edges, "minimal-split", backend)
    served = set(re.findall(r"^# TYPE nginx_experiment_(\w+)", get(edge.port2, "/metrics").text, re.M))
    rows = " ".join(re.findall(r"^\|([^|]*)\|", section("Metrics"), re.M))
    by_experiment = re.search(r"^By `experiment`:(.*?)\n\n", section("Metrics"), re.M | re.S)[1]
    told = set(re.findall(r"`(\w+)(?:\{\w+\})?`", rows + by_experiment))
    assert told - {"late", "duplicate", "unexposed", "refused"} == served
