"""Nobody sees what was made for somebody else: in nginx's own cache, in browsers, in caches in front."""
import collections
import random
import re
import time

import pytest
from lib.client import Browser, assignments, get
from lib.edge import ZONE, document, experiment
from lib.load import Connection, Load, request
from lib.storefront import DATE, KEYS, Storefront, read

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
    add_header X-Assigned
        "button=$variant_button hero=$variant_hero shared=$variant_shared banner=$variant_banner" always;
    add_header X-Reason $experiment_reason_button always;
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
PRIVATE = ["private, no-cache"]
INWARD = "$uri"                     # isolated by Vary alone
KEYED = "$experiment_cache_key$uri"  # isolated by the variable as well
EDGE_RENDERED = "sub_filter '@@banner@@' '$variant_banner'; sub_filter_last_modified on;"
LOCKED = EDGE_RENDERED + "proxy_cache_lock on; proxy_cache_revalidate on;"
STALE = LOCKED + "proxy_cache_background_update on; proxy_cache_use_stale updating error timeout http_503;"


# An object is stored a moment after its answer has ended; what the same worker is asked next finds it.
ONE = {"workers": 1}


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
        assert self.assigned in (None, assigned), f"a visitor saw two variants: {answer.header('X-Reason')}"
        self.assigned = assigned
        self.cookies.update(answer.cookies)
        assert answer.all("Cache-Control") == PRIVATE
        if answer.status == 304:
            tag, shown, banner = self.tags[self.asked]
            assert answer.header("ETag").removeprefix("W/") == tag.removeprefix("W/")
        else:
            assert answer.status == 200, (answer.status, answer.text)
            path, shown, banner = read(answer.text)
            assert path == self.asked
            self.tags[path] = answer.header("ETag"), shown, banner
        own = expected(assigned), assigned.get("banner", "")
        assert (shown, banner) == own, "a body made for somebody else"


def stored(edge):
    """path: bytes of every object in the cache."""
    files = (edge.folder / "cache").rglob("*")
    return {path: path.read_bytes() for path in files if path.is_file() and path.suffix == ""}


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
        family = f'nginx_experiment_exposures_total{{experiment="{name}"'
        exposed = sum(v for k, v in counted.items() if k.startswith(family))
        enrolled = sum(name in v.assigned for v in visitors)
        taken_for_repeated = enrolled * counted["nginx_experiment_filter_false_positive_ratio"]
        assert 0 <= enrolled - exposed <= taken_for_repeated + 4 * taken_for_repeated ** 0.5
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


def test_one_cohort_waits_for_one_render(edges, backend):
    backend.reset()
    backend.answer = front = Storefront()
    edge = edges(conf(KEYED, more="proxy_cache_lock on;"), SPLIT, backend)
    browser = Browser(edge.port)
    browser.go("/first")
    before = front.pages
    with Load(edge.port, 24) as load:
        answers = load.exchange([request("/", browser.cookies) for _ in range(24)], depth=1)
    assert len({answer.text for answer in answers}) == 1
    assert front.pages == before + 1


# Forged keys

TOKENS = ("button.green", "button.green~hero.big", "-", "~")


@pytest.mark.parametrize("key", [INWARD, KEYED, "$experiment_cache_key$scheme$host$request_uri"])
def test_no_url_forges_a_cache_key(edges, backend, key):
    """Requests that spell a cohort where they can get nothing of the enrolled and leave them nothing."""
    backend.reset()
    backend.answer = Storefront()
    edge = edges(conf(key), SPLIT, backend, allowed="client sent invalid|worker_connections")
    some = (Enrolled(edge.port) for _ in range(50))
    green = next(b for b in some if b.assigned["button"] == "green" and "hero" in b.assigned)
    mine = read(green.browser.go("/").text)[1]

    def raw(path, host=b"shop.test", more=b""):
        connection = Connection(edge.port)
        try:
            connection.send(b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n%b\r\n"
                            % (path, host, more))
            return connection.receive()
        finally:
            connection.close()

    plain, served = "button=- hero=- shared=-", 0
    for token in TOKENS:
        token = token.encode()
        for form in (b"/\0%b\0", b"/%%00%b%%00/", b"\0%b\0/", b"/%b/", b"/%b", b"/?%b", b"/?\0%b\0",
                     b"/?%%00%b%%00", b"/%%01%b%%01", b"/~%b", b"/\xff%b\xff", b"http://%b/", b"http://a/%b"):
            path = form % token
            answer = raw(path)
            nul = b"\0" in path or b"%00" in path.split(b"?")[0]
            assert answer.status == 400 if nul else answer.status in (200, 400)
            if answer.status == 200:
                served += 1
                assert read(answer.text)[1] == plain
                assert answer.header("X-Assigned") == "button= hero= shared= banner="
        for host in (token, b"\0" + token + b"\0", b"shop.test\0" + token, b"%00" + token):
            answer = raw(b"/", host)
            assert answer.status == 400 or read(answer.text)[1] == plain
        for form in (b"Experiment-Cohort: %b", b"Experiment_Cohort: %b", b"experiment-cohort:%b",
                     b"Experiment-Assignments: button=%b",
                     b"X: 1\r\nExperiment-Cohort: %b\r\nEXPERIMENT-COHORT: a"):
            answer = raw(b"/", more=form % token + b"\r\n")
            assert read(answer.text)[1] == plain
    assert served > 20
    assert read(green.browser.go("/").text)[1] == mine
    if key != INWARD:
        shown = {k: v for k, v in green.assigned.items() if k != "banner" and (k, v) != ("shared", "control")}
        mine = "\0%s\0" % "~".join(f"{k}.{v}" for k, v in sorted(shown.items()))
        at_root = [data for data in stored(edge).values() if mine.encode() in data]
        assert len(at_root) == 2  # "/first" and "/"


class Enrolled:
    def __init__(self, port, path="/first"):
        self.browser = Browser(port)
        self.assigned = told(self.browser.go(path))


# Rewards of answers that may be stored

REWARD = ("Experiment-Reward", "purchase")


def rewards(edge):
    counted = edge.metrics()
    return sum(v for k, v in counted.items() if k.startswith("nginx_experiment_rewards_total"))


def test_a_reward_is_paid_once_and_not_stored(edges, backend):
    backend.reset()
    backend.answer = Storefront(headers=[REWARD, ("Cache-Control", "public, max-age=600")])
    edge = edges(conf(), document(experiment("button")), backend)
    browser = Browser(edge.port)
    for expected_pages in (1, 2, 3):
        answer = browser.go("/thanks")
        assert answer.header("X-Cache") == "MISS" and answer.header("Experiment-Reward") is None
        assert backend.answer.pages == expected_pages
    assert rewards(edge) == 1
    assert not stored(edge)
    counted = edge.metrics()
    assert counted["nginx_experiment_not_stored_total"] == 3
    assert counted["nginx_experiment_rewards_replayed_total"] == 0


def test_a_stored_reward_pays_nobody(edges, backend):
    """Stored by an nginx without the module, found by one with it."""
    backend.reset()
    backend.answer = Storefront(headers=[REWARD])
    plain = """
        server { listen 127.0.0.1:{port}; location / {
            proxy_cache pages; proxy_cache_key $uri; proxy_cache_valid 200 1h;
            proxy_pass http://{backend}; } }
    """
    edge = edges(plain, document(experiment("button")), backend, zone="")
    assert get(edge.port, "/thanks").header("Experiment-Reward") == "purchase"
    edge.wait(lambda: len(stored(edge)) == 1)
    edge.configure(conf(), zone=ZONE)
    edge.reload()
    browser = Browser(edge.port)
    browser.go("/first")  # exposed, and paid for a fresh answer of its own
    before = rewards(edge)
    for times in (1, 2):
        answer = browser.go("/thanks")
        assert answer.header("X-Cache") == "HIT" and answer.header("Experiment-Reward") is None
        assert edge.metrics()["nginx_experiment_rewards_replayed_total"] == times
    assert rewards(edge) == before == 1
    assert edge.metrics()["nginx_experiment_not_isolated_total"] == 2


# Browsers' own copies

@pytest.fixture
def pages(edges, backend):
    """Cached and not cached, with one experiment; `front` is the origin."""
    backend.reset()
    backend.answer = Storefront()
    edge = edges(HEAD + """
    gzip_types text/html;
    server {
        listen 127.0.0.1:{port};
        location = /metrics { experiment_metrics; }
        proxy_cache_key $uri;
        proxy_cache_valid 200 1h;
        experiment all;
        location /cached/ { proxy_cache pages; proxy_pass http://app; }
        location /zip/ { gzip on; gzip_min_length 1; proxy_cache pages; proxy_pass http://app; }
        location /fresh/ { proxy_pass http://app; }
        location /files/ { alias {folder}/files/; }
    }
    """, document(experiment("button")), backend, **ONE)
    (edge.folder / "files").mkdir()
    (edge.folder / "files" / "page.html").write_text("a file " * 20)
    both = {}
    while len(both) < 2:
        enrolled = Enrolled(edge.port, "/fresh/first")
        both.setdefault(enrolled.assigned.get("button"), enrolled.browser)
    edge.control, edge.green = both["control"], both["green"]
    edge.front = backend.answer
    return edge


DATES = (DATE, "Fri, 01 Jan 2100 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT")
PLACES = ["/cached/", "/fresh/", "/zip/", "/files/page.html"]


def weak(tag):
    return "W/" + tag.removeprefix("W/")


@pytest.mark.parametrize("path", PLACES)
def test_a_browser_gets_304_for_its_own_tag(pages, path):
    for browser in (pages.control, pages.green):
        zipped = {"Accept-Encoding": "gzip"} if path == "/zip/" else {}
        answer = browser.go(path, zipped)
        tag = answer.header("ETag")
        assert answer.status == 200 and ";exp=button." in tag
        assert answer.header("Last-Modified") is None and answer.all("Cache-Control") == PRIVATE
        assert (answer.header("Content-Encoding") == "gzip") == tag.startswith("W/") == (path == "/zip/")
        for asked in (tag, weak(tag), f'"x", {tag} , W/"y"', f'{tag},"a,b"', "*"):
            again = browser.go(path, {**zipped, "If-None-Match": asked})
            assert (again.status, again.body) == (304, b""), asked
            assert weak(again.header("ETag")) == weak(tag)
            assert again.header("Last-Modified") is None and again.all("Cache-Control") == PRIVATE
        # The date is of no weight beside a tag, whichever it is.
        for date in DATES:
            assert browser.go(path, {**zipped, "If-None-Match": tag, "If-Modified-Since": date}).status == 304


@pytest.mark.parametrize("path", PLACES)
def test_a_tag_of_another_variant_gets_the_own_one(pages, path):
    tag_of_control = pages.control.go(path).header("ETag")
    own = pages.green.go(path)
    before = tag_of_control.split(";exp=")[0] + '"'  # as it was before the experiment
    for asked in (tag_of_control, weak(tag_of_control), before, weak(before), f'{tag_of_control}, {before}',
                  '"x;exp="', '"x;exp=button.green', "button.green", '"', "W/", ",", '";exp=button.green"'):
        answer = pages.green.go(path, {"If-None-Match": asked})
        assert (answer.status, answer.body) == (200, own.body), asked
        assert answer.header("ETag") == own.header("ETag")


@pytest.mark.parametrize("path", PLACES)
def test_a_date_from_before_the_experiment_means_nothing(pages, path):
    own = pages.green.go(path)
    for name in ("If-Modified-Since", "If-Unmodified-Since"):
        for date in DATES:
            answer = pages.green.go(path, {name: date})
            assert (answer.status, answer.body) == (200, own.body), (name, date)
            assert pages.green.go(path, {name: date, "If-None-Match": own.header("ETag")}).status == 304


def test_a_writer_names_the_version_of_the_origin(pages, backend):
    """If-Match speaks of what is overwritten, not of the variant it was shown in."""
    backend.answer = lambda path, headers: (200, [("ETag", '"v1"'), ("Content-Type", "text/html")],
                                            (headers.get("If-Match") or "").encode())
    for path in ("/fresh/item", "/cached/item"):
        shown = {browser.go(path).header("ETag") for browser in (pages.control, pages.green)}
        assert shown == {'"v1;exp=button.control"', '"v1;exp=button.green"'}
        for tag in [*shown, '"v1"', "*", f'{sorted(shown)[0]},"v0"']:
            expected_tag = re.sub(";exp=[^\"]*", "", tag)
            saved = pages.green.fetch(path, {"If-Match": tag}, method="POST", body="x")
            assert (saved.status, saved.text) == (200, expected_tag)
    for status, tag in ((200, '"v1;exp=button.green"'), (412, '"v1;exp=button.control"'), (412, '"v0"')):
        assert pages.green.go("/cached/item", {"If-Match": tag}).status == status


@pytest.mark.parametrize("path", ["/cached/", "/fresh/", "/files/page.html"])
def test_a_range_continues_only_the_own_variant(pages, path):
    whole = pages.green.go(path)
    tag, other = whole.header("ETag"), pages.control.go(path).header("ETag")
    for condition in ({"If-Range": tag}, {}):
        part = pages.green.go(path, {"Range": "bytes=10-", **condition})
        assert (part.status, part.body) == (206, whole.body[10:])
        assert part.header("ETag") == tag and part.header("Cache-Control") == "private, no-cache"
    for asked in (other, other.split(";exp=")[0] + '"', DATE, '"x"'):
        answer = pages.green.go(path, {"Range": "bytes=10-", "If-Range": asked})
        assert (answer.status, answer.body) == (200, whole.body), asked


# What the origin says about caching, and what leaves

ORIGIN = [("Cache-Control", "public, max-age=600"), ("Expires", DATES[1]), ("Pragma", "x"),
          ("Surrogate-Control", "max-age=600"), ("CDN-Cache-Control", "max-age=600"),
          ("Cloudflare-CDN-Cache-Control", "max-age=600"), ("Vary", "Accept-Encoding")]


def serve(edges, backend, location, definitions=None, headers=()):
    """One location, with the origin's headers."""
    backend.reset()
    backend.answer = Storefront(headers=headers)
    text = HEAD + """
    server {
        listen 127.0.0.1:{port};
        location = /metrics { experiment_metrics; }
        location / { experiment all; %s }
    }
    """ % location
    return edges(text, definitions or document(experiment("button")), backend, **ONE)


CACHED = "proxy_cache pages; proxy_cache_key $uri; proxy_cache_valid 200 1h; proxy_pass http://app;"
GONE = ("Expires", "Pragma", "Surrogate-Control", "CDN-Cache-Control", "Cloudflare-CDN-Cache-Control",
        "Last-Modified", "Surrogate-Key", "Cache-Tag", "Cache-Groups")


@pytest.mark.parametrize("more", [
    "", "expires 1h;", "expires max;", "expires epoch;",
    "proxy_hide_header Cache-Control; expires modified 1h;",
    'add_header Cache-Control "public, max-age=9" always;',
    'add_header CDN-Cache-Control max-age=9; add_header Expires 0; add_header Pragma x;'])
def test_what_leaves_is_private(edges, backend, more):
    edge = serve(edges, backend, CACHED + more, headers=ORIGIN)
    browser = Browser(edge.port)
    for status in ("MISS", "HIT"):
        answer = browser.go("/")
        if not more.startswith("add_header"):
            assert answer.header("X-Cache") == status
        assert answer.all("Cache-Control") == PRIVATE
        assert [answer.header(name) for name in GONE] == [None] * len(GONE)
        assert answer.header("Vary") == "Accept-Encoding"  # the origin's own, without ours
        again = browser.go("/", {"If-None-Match": answer.header("ETag")})
        assert (again.status, again.all("Cache-Control")) == (304, PRIVATE)
    # The stored copy keeps what the origin said.
    assert all(name.encode() in data for data in stored(edge).values() for name, _ in ORIGIN)


def test_no_store_of_the_origin_stays(edges, backend):
    edge = serve(edges, backend, CACHED, headers=[("Cache-Control", "No-Store, max-age=0")])
    answer = Browser(edge.port).go("/")
    assert answer.all("Cache-Control") == ["private, no-cache, no-store"]
    assert not stored(edge)


def test_where_nothing_applies_the_origin_is_passed_on(edges, backend):
    off = document(experiment("button", desired="stopped"), experiment("hero", desired="draft"))
    edge = serve(edges, backend, CACHED, off, ORIGIN)
    answer = Browser(edge.port).go("/")
    assert answer.header("Cache-Control") == "public, max-age=600" and answer.header("Last-Modified")
    assert ";exp=" not in answer.header("ETag") and not answer.cookies
    assert all(dict(answer.headers)[name] == value for name, value in ORIGIN)


def test_tagged_is_for_caches_that_know_the_cohort(edges, backend):
    both = document(experiment("button"), experiment("hero"))
    edge = serve(edges, backend, CACHED + "experiment_isolation tagged;", both, ORIGIN)
    browser = Browser(edge.port)
    first = browser.go("/")  # sets cookies: for nobody else
    assert first.all("Cache-Control") == PRIVATE and first.header("Surrogate-Key") is None
    answer = browser.go("/")
    variants = told_here(backend)
    tags = [f"exp:{key}{variant}" for key in ("button", "hero") for variant in ("", ":" + variants[key])]
    assert answer.header("Surrogate-Key") == " ".join(tags)
    assert answer.header("Cache-Tag") == ",".join(tags)
    assert answer.header("Cache-Groups") == ", ".join(f'"{tag}"' for tag in tags)
    assert answer.header("Cache-Control") == "public, max-age=600"
    assert answer.header("ETag").endswith(f";exp=button.{variants['button']}~hero.{variants['hero']}\"")
    assert browser.go("/", {"If-None-Match": answer.header("ETag")}).status == 304


def told_here(backend):
    """What the last request told the origin."""
    return assignments(backend.requests[-1][1]["Experiment-Assignments"])


def test_isolation_off_touches_nothing(edges, backend):
    edge = serve(edges, backend, CACHED + "experiment_isolation off;", headers=ORIGIN)
    browser = Browser(edge.port)
    for _ in range(2):
        answer = browser.go("/")
        assert answer.header("Cache-Control") == "public, max-age=600" and answer.header("Last-Modified")
        assert ";exp=" not in answer.header("ETag")
        assert browser.go("/", {"If-None-Match": answer.header("ETag")}).status == 304
    assert b"Experiment-Cohort" in next(iter(stored(edge).values()))[:400]  # inward it stays


def test_cache_off_leaves_the_key_alone_to_isolate(edges, backend):
    location = CACHED.replace("$uri", KEYED) + "experiment_cache off;"
    edge = serve(edges, backend, location)
    for _ in range(30):
        enrolled = Enrolled(edge.port, "/")
        assert enrolled.browser.go("/").header("X-Cache") == "HIT"
        assert read(enrolled.browser.go("/").text)[1] == expected(enrolled.assigned)
    edge.wait(lambda: len(stored(edge)) == 2)
    assert not any(b"Experiment-Cohort" in data[:400] for data in stored(edge).values())


# Vary of the origin

def visit_both(edge, headers=None):
    """One visitor of each variant, twice each: [(variant, shown, cache status)]."""
    both = {}
    while len(both) < 2:
        enrolled = Enrolled(edge.port, "/elsewhere")
        both.setdefault(enrolled.assigned["button"], enrolled.browser)
    seen = []
    for variant, browser in sorted(both.items()) * 2:
        answer = browser.go("/", headers)
        seen.append((variant, read(answer.text)[1].split()[0], answer.header("X-Cache")))
    return seen


RIGHT = [("control", "button=control"), ("green", "button=green")] * 2
FILLED = ["MISS", "MISS", "HIT", "HIT"]


@pytest.mark.parametrize("vary, fits", [("Accept-Language", True), ("x" * 109, True), ("x" * 110, False),
                                        ("x" * 128, False), ("x" * 129, False), ("*", False)])
def test_vary_of_the_origin_is_kept(edges, backend, vary, fits):
    edge = serve(edges, backend, CACHED, headers=[("Vary", vary)])
    seen = visit_both(edge, {"Accept-Language": "de"})
    assert [one[:2] for one in seen] == RIGHT
    assert [one[2] for one in seen] == (FILLED if fits else ["MISS"] * 4)
    if fits:
        data = next(iter(stored(edge).values()))
        assert f"{vary}, Experiment-Cohort".encode() in data[:400]
        again = visit_both(edge, {"Accept-Language": "en"})
        assert [one[2] for one in again] == (FILLED if vary == "Accept-Language" else ["HIT"] * 4)
    else:
        assert not stored(edge)


def test_vary_that_is_ignored_still_isolates(edges, backend):
    edge = serve(edges, backend, CACHED + "proxy_ignore_headers Vary;", headers=[("Vary", "*")])
    seen = visit_both(edge)
    assert [one[:2] for one in seen] == RIGHT and [one[2] for one in seen] == FILLED


def test_a_set_cookie_of_the_origin_is_not_stored(edges, backend):
    edge = serve(edges, backend, CACHED, headers=[("Set-Cookie", "session=1")])
    browser = Browser(edge.port)
    browser.go("/")
    assert browser.cookies["session"] == "1" and browser.go("/").header("X-Cache") == "MISS"
    assert not stored(edge)


# Rendered at the edge, and control that shares

def test_edge_rendering_keeps_one_cached_body(edges, backend):
    banner = document(experiment("banner", ("control", "sale"), render="edge"))
    edge = serve(edges, backend, CACHED + EDGE_RENDERED, banner)
    seen = {}
    for number in range(20):
        enrolled = Enrolled(edge.port, "/")
        answer = enrolled.browser.go("/")
        variant = enrolled.assigned["banner"]
        assert answer.header("X-Cache") == "HIT"
        assert read(answer.text)[2] == variant
        assert answer.header("ETag").endswith(f';exp=banner.{variant}"')
        assert answer.all("Cache-Control") == PRIVATE
        seen[variant] = answer.header("ETag"), enrolled.browser
    assert len(backend.requests) == 1 and len(stored(edge)) == 1
    headers = backend.requests[0][1]
    assert (headers["Experiment-Cohort"], headers["Experiment-Assignments"]) == ("-", "none")
    (of_control, control), (of_sale, sale) = seen["control"], seen["sale"]
    assert sale.go("/", {"If-None-Match": of_sale}).status == 304
    assert control.go("/", {"If-None-Match": of_sale}).status == 200


@pytest.mark.parametrize("key", [INWARD, KEYED], ids=["vary", "key"])
def test_control_shares_the_entry_of_the_not_enrolled(edges, backend, key):
    shared = document(experiment("button", control_cache="shared"))
    edge = serve(edges, backend, CACHED.replace("$uri", key), shared)
    plain = get(edge.port, "/")  # of nobody: fills the entry
    assert plain.header("X-Cache") == "MISS"
    seen = set()
    while len(seen) < 2:
        enrolled = Enrolled(edge.port, "/")
        variant = enrolled.assigned["button"]
        answer = enrolled.browser.go("/")
        shown = read(answer.text)[1].split()[0]
        assert shown == ("button=green" if variant == "green" else "button=-")
        assert answer.header("ETag").partition(";")[2] == ('exp=button.green"' if variant == "green" else "")
        seen.add(variant)
    assert len(backend.requests) == 2
    said = {headers["Experiment-Assignments"].split(";")[0] for _, headers in backend.requests}
    assert said == {"none", "button=green"}
    assert get(edge.port, "/", {"If-None-Match": plain.header("ETag")}).status == 304


# A cache in front

def test_a_cache_in_front_stores_nothing_of_an_experiment(edges, backend):
    backend.reset()
    backend.answer = front = Storefront(headers=[("Cache-Control", "public, max-age=600")])
    inner = edges(HEAD + """
    server { listen 127.0.0.1:{port};
        location / { experiment all; """ + CACHED.replace("proxy_cache_valid 200 1h;", EDGE_RENDERED) + """ }
        location /plain/ { proxy_pass http://app; } }
    """, SPLIT, backend)
    outer = edges("""
    keepalive_requests 10000000;
    server { listen 127.0.0.1:{port}; location / {
        proxy_cache pages; proxy_cache_key $uri; proxy_cache_valid 200 1h; proxy_cache_revalidate on;
        proxy_set_header Host $host; proxy_http_version 1.1; proxy_set_header Connection "";
        add_header X-Outer $upstream_cache_status; proxy_pass http://127.0.0.1:%d; } }
    """ % inner.port, zone="", **ONE)
    rng = random.Random(7)
    visitors = [Visitor() for _ in range(60)]
    with Load(outer.port, 8) as load:
        for _ in range(6):
            answers = load.exchange([visitor.ask("/", rng) for visitor in visitors])
            for visitor, answer in zip(visitors, answers):
                assert answer.header("X-Outer") == "MISS"
                visitor.see(answer)
    assert not stored(outer) and len(stored(inner)) > 6
    assert len({visitor.cookies["uid"] for visitor in visitors}) == 60
    pages = front.pages
    assert [get(outer.port, "/plain/").header("X-Outer") for _ in range(3)] == ["MISS", "HIT", "HIT"]
    assert front.pages == pages + 1  # what no experiment touches is cached in front as before


def test_slices_are_put_together(edges, backend):
    whole = {variant: (variant * 1000).encode() for variant in ("control", "green")}

    def answer(path, headers):
        variant = assignments(headers["Experiment-Assignments"])["button"]
        begin, end = (int(number) for number in headers["Range"].removeprefix("bytes=").split("-"))
        body = whole[variant][begin:end + 1]
        return 206, [("Content-Type", "text/html"), ("ETag", f'"{variant}"'),
                     ("Content-Range", f"bytes {begin}-{begin + len(body) - 1}/{len(whole[variant])}")], body

    edge = serve(edges, backend, """
        slice 1k; proxy_set_header Range $slice_range; proxy_set_header Connection "";
        proxy_cache pages; proxy_cache_key $uri$slice_range; proxy_cache_valid 206 1h; proxy_pass http://app;
    """)
    backend.answer = answer
    seen = set()
    while len(seen) < 2:
        enrolled = Enrolled(edge.port, "/")
        variant = enrolled.assigned["button"]
        for _ in range(2):
            page = enrolled.browser.go("/")
            assert (page.status, page.body) == (200, whole[variant])
            part = enrolled.browser.go("/", {"Range": "bytes=1500-3999", "If-Range": page.header("ETag")})
            assert (part.status, part.body) == (206, whole[variant][1500:4000])
        assert enrolled.browser.go("/", {"If-None-Match": page.header("ETag")}).status == 304
        seen.add(variant)
    assert len(backend.requests) == sum(-(-len(body) // 1024) for body in whole.values())
