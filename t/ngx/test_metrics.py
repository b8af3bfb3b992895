"""The metrics page: valid text that Prometheus reads, and numbers that are the truth."""
import collections
import http.client
import json
import socket
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from lib.client import NAVIGATION, Browser, Response, assignments, get
from lib.edge import document, experiment
from lib.exposition import check_form, parse, promtool

CONF = """
    upstream first_fails { server 127.0.0.1:1; server {backend} backup; }
    upstream none { server 127.0.0.1:1; }
    server {
        listen 127.0.0.1:{port};
        location / { experiment all; proxy_pass http://{backend}; }
        location = /own { experiment all; return 200 "page"; }
        location = /own404 { experiment all; return 404 "none"; }
        location /hidden/ {
            experiment all; proxy_intercept_errors on; error_page 500 502 503 =200 /sorry.html;
            proxy_pass http://{backend};
        }
        location = /sorry.html { return 200 "sorry"; }
        location /retried/ { experiment all; proxy_pass http://first_fails; }
        location /down/ { experiment all; proxy_pass http://none; }
        location /slow/ { experiment all; proxy_read_timeout 300ms; proxy_pass http://{backend}; }
        location /cached/ {
            experiment all; proxy_cache pages; proxy_cache_valid 200 1s; proxy_cache_use_stale error http_500;
            proxy_cache_bypass $arg_bypass; add_header X-Cache $upstream_cache_status;
            proxy_pass http://{backend};
        }
        location = /e { experiment_beacon; }
        location = /metrics { experiment_metrics; }
    }
"""


def read(edge):
    families = parse(get(edge.port, "/metrics").text)
    return {(name.removeprefix("nginx_experiment_"), *(v for _, v in labels)): value
            for _, samples in families.values() for (name, labels), value in samples.items()}


def answer(path, headers):
    query = {k: v[0] for k, v in parse_qs(urlsplit(path).query).items()}
    time.sleep(float(query.get("delay", 0)))
    body = (headers.get("Experiment-Assignments") or "").encode() + b" " * int(query.get("size", 0))
    return int(query.get("status", 200)), [("Content-Type", "text/html")], body


@pytest.fixture
def edge(edges, backend):
    backend.reset()
    backend.answer = answer
    goals = [{"key": "purchase"}, {"key": "revenue", "kind": "value", "max": 500}]
    return edges(CONF, document(experiment("button", goals=goals),
                                experiment("account-test", ("a", "b"), unit="account")), backend)


class Visitor(Browser):
    """Reads to the end of each connection: nginx closes it behind the log phase, where requests are counted."""

    def request(self, path="/", headers=None, method="GET", body=None):
        sent = {**self.headers, **(headers or {}), "Connection": "close",
                "Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body=body, headers=sent)
        answer = connection.getresponse()
        answer.length = None
        response = Response(answer.status, answer.getheaders(), answer.read())
        self.cookies.update(response.cookies)
        return response


def visitor(edge, variant=None):
    while True:
        browser = Visitor(edge.port)
        browser.variant = assignments(browser.go("/").text)["button"]
        if variant in (None, browser.variant):
            return browser


def test_the_text_is_what_prometheus_reads(edges, backend):
    """Empty, full, and with an experiment of each kind."""
    backend.reset()
    backend.answer = answer
    edge = edges(CONF, document(
        experiment("button"), experiment("hero", ("a", "b"),
                                         allocation={"policy": "thompson", "goal": "purchase"}),
        experiment("draft-one", desired="draft"), experiment("off-one", rollout=[{"traffic": 1}]),
        experiment("flag", ("on",), goals=[]), experiment("long-" + "x" * 35, ("a" * 40, "b"))), backend)
    check_form(parse(get(edge.port, "/metrics").text))
    for _ in range(30):
        browser = Browser(edge.port)
        browser.go("/")
        browser.fetch("/e", {"Content-Type": "application/json"}, method="POST",
                      body='[{"goal":"purchase"},{"goal":"x"}]')
    response = get(edge.port, "/metrics")
    assert response.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    check_form(parse(response.text))
    promtool(response.body)
    head = get(edge.port, "/metrics", method="HEAD")
    assert head.status == 200 and head.body == b""
    assert head.header("Content-Type") == response.header("Content-Type")
    assert get(edge.port, "/metrics", method="POST", body="x").status == 405
    empty = edges(CONF, None, backend)
    check_form({k: v for k, v in parse(get(empty.port, "/metrics").text).items() if v[0] != "histogram"})


def test_nothing_names_a_unit(edge):
    secrets = [f"secret-{n}" for n in range(20)]
    for secret in secrets:
        browser = Browser(edge.port, {"uid": secret}, {"X-Account": secret})
        browser.go("/?" + secret)
        browser.fetch("/e", {"Content-Type": "application/json"}, method="POST",
                      body=json.dumps([{"goal": "purchase", "id": secret}, {"goal": secret},
                                       {"goal": "revenue", "value": secret}]))
    minted = Browser(edge.port)
    minted.go("/")
    text = get(edge.port, "/metrics").text
    assert "secret" not in text and minted.cookies["uid"] not in text


def test_requests_by_status_cache_and_reason(edge, backend):
    """Two visitors, a page of each kind; rows are told apart by variant."""
    people = [visitor(edge, "control"), visitor(edge, "green")]
    before = read(edge)
    truth = collections.Counter()

    def ask(person, path, times=1, wanted=None, cache=None):
        for _ in range(times):
            response = person.go(path)
            truth["requests_total", "button", person.variant, f"{response.status // 100}xx"] += 1
            truth["decisions_total", "button", "sticky"] += 1
            truth["decisions_total", "account-test", "no_unit"] += 1
            assert response.status == wanted or wanted is None
            met = response.header("X-Cache")
            assert cache is None or met in cache
            if cache is not None:
                truth["cache_requests_total", "button", person.variant, met.lower()] += 1
        return met
    control, green = people
    for person, n in ((control, 2), (green, 3)):
        ask(person, "/", n, 200)
        ask(person, "/own", n, 200)
        ask(person, "/own404", n, 404)
        for status in (204, 301, 404, 418, 500, 503):
            ask(person, f"/?status={status}", n, status)
        path = "/cached/" + person.variant
        ask(person, path, 1, 200, "MISS")
        ask(person, path, n, 200, "HIT")
        ask(person, path + "?bypass=1", 2, 200, "BYPASS")
    backend.answer = lambda path, headers: (500, [("Content-Type", "text/html")], b"")
    edge.wait(lambda: ask(green, "/cached/green", 1, 200, ("HIT", "STALE")) == "STALE")
    backend.answer = answer
    ask(green, "/cached/green", 1, 200, "EXPIRED")
    now = read(edge)
    for key, value in truth.items():
        assert now[key] - before.get(key, 0) == value, key
    for metric in ("requests_total", "cache_requests_total", "decisions_total"):
        changed = {key for key in now if key[0] == metric and now[key] != before.get(key, 0)}
        assert changed == {key for key in truth if key[0] == metric}


def test_bytes_and_latency(edge):
    """Bytes are those on the wire; a request that waits is in the bucket of its wait, here and upstream."""
    slow, quick = visitor(edge, "control"), visitor(edge, "green")
    before = read(edge)
    sent = raw_bytes(edge, slow, "/?size=5000&delay=0.12")
    sent += raw_bytes(edge, slow, "/own")
    quick.go("/own")
    now = read(edge)

    def more(*key):
        return now[key] - before[key]
    assert more("sent_bytes_total", "button", "control") == sent > 5000
    assert more("request_duration_seconds_count", "button", "control") == 2
    assert more("upstream_duration_seconds_count", "button", "control") == 1
    assert more("upstream_duration_seconds_count", "button", "green") == 0
    assert more("request_duration_seconds_count", "button", "green") == 1
    for which in ("request", "upstream"):
        bucket, quick_ones = f"{which}_duration_seconds_bucket", int(which == "request")
        assert more(bucket, "button", "control", "0.1") == quick_ones
        assert more(bucket, "button", "control", "+Inf") == quick_ones + 1
        assert 0.1 <= more(f"{which}_duration_seconds_sum", "button", "control") < 5


def raw_bytes(edge, browser, path):
    """Length of the whole answer."""
    headers = {**NAVIGATION, "Host": "edge", "Connection": "close",
               "Cookie": "; ".join(f"{k}={v}" for k, v in browser.cookies.items())}
    with socket.create_connection(("127.0.0.1", edge.port)) as s:
        s.sendall((f"GET {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
                   + "\r\n").encode())
        received = b""
        while piece := s.recv(65536):
            received += piece
    return len(received)


@pytest.mark.parametrize("path,status,counted", [
    ("/", 200, 0), ("/?status=404", 404, 0), ("/?status=500", 500, 1), ("/?status=503", 503, 1),
    ("/own", 200, 0),
    ("/hidden/", 200, 0), ("/hidden/?status=500", 200, 1), ("/hidden/?status=503", 200, 1),
    ("/retried/", 200, 1),
    ("/down/", 502, 1), ("/slow/?delay=0.8", 504, 1)])
def test_upstream_failures_are_seen_whatever_the_visitor_sees(edge, path, status, counted):
    person = visitor(edge)
    assert person.go(path).status == status
    now = read(edge)
    assert now["upstream_failures_total", "button", person.variant] == counted
    assert now["requests_total", "button", person.variant, f"{status // 100}xx"] >= 1


def test_a_visitor_who_leaves_is_no_failure_of_the_upstream(edge):
    person = visitor(edge)
    with socket.create_connection(("127.0.0.1", edge.port)) as s:
        cookies = "; ".join(f"{k}={v}" for k, v in person.cookies.items())
        s.sendall(f"GET /?delay=0.5 HTTP/1.1\r\nHost: edge\r\nCookie: {cookies}\r\n\r\n".encode())
        edge.wait(lambda: any("delay=0.5" in path for path, _ in edge.backend.requests))
    edge.wait(lambda: read(edge).get(("requests_total", "button", person.variant, "4xx")) == 1)
    assert read(edge)["upstream_failures_total", "button", person.variant] == 0


def test_node_counters(edge):
    """Each thing that went wrong, once."""
    before = read(edge)
    person = visitor(edge)
    get(edge.port, "/", {"Experiment-Cohort": "x", "Experiment-Assignments": "button=green"})
    get(edge.port, "/own", {**NAVIGATION, "Cookie": "uid=somebody; exp=AAAA"})
    for body in ('{"goal":"purchase"}', '{"goal":"unheard-of"}', "{",
                 '[{"goal":"purchase"},{"goal":"revenue","value":"x"}]'):
        person.fetch("/e", {"Content-Type": "application/json"}, method="POST", body=body)
    now = read(edge)
    grown = {key[0]: now[key] - before.get(key, 0) for key in now if len(key) == 1
             and now[key] != before.get(key)}
    assert grown.pop("filter_keys") == 3
    grown.pop("filter_false_positive_ratio", 0)
    assert grown == {"units_minted_total": 1, "headers_stripped_total": 2, "cookies_refused_total": 1,
                     "rewards_unknown_total": 1,
                     "beacons_accepted_total": 3, "beacons_refused_total": 2}
    dropped = {key[2]: now[key] for key in now if key[:2] == ("rewards_dropped_total", "button")}
    assert dropped == {"late": 0, "duplicate": 1, "unexposed": 0, "refused": 1}


def test_counters_do_not_go_back_over_a_reload(edge):
    people = [visitor(edge) for _ in range(20)]
    before = read(edge)
    edge.reload()
    now = read(edge)
    assert {key: now.get(key) for key in before if key[0].endswith("_total")} == \
        {key: value for key, value in before.items() if key[0].endswith("_total")}


def test_gauges(edges, backend):
    edge = edges(CONF, document(experiment("button", ({"key": "control", "weight": 3},
                                                      {"key": "green", "weight": 1}))), backend)
    now = read(edge)
    assert now["allocation_ratio", "button", "control"] == 0.75
    assert now["allocation_ratio", "button", "green"] == 0.25
    assert (now["epoch", "button"], now["experiments",], now["killed",], now["zone_full",]) == (1, 1, 0, 0)
    version = now["document_version",]
    assert version >= 1 and 0 < now["zone_used_bytes",] < now["zone_bytes",] <= 8 << 20
    edge.define(document(experiment("button"), experiment("hero", ("a", "b"))))
    edge.wait(lambda: read(edge)["experiments",] == 2)
    assert read(edge)["document_version",] > version
    edge.wait(lambda: read(edge)["allocation_ratio", "button", "green"] == 0.5)
    edge.ctl("kill", "--all", "--reason", "test", check=True)
    edge.wait(lambda: read(edge)["killed",] == 1)
