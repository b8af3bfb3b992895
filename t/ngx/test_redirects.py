"""One decision a request, counted once, whatever way nginx takes; the right headers, once each."""
import json
import re
import socket
import subprocess

import pytest
from lib.client import NAVIGATION, Browser, assignments
from lib.edge import document, experiment

# What every location below may use; the decision is the same wherever it is made.
CONF = """
    keepalive_requests 10000000;
    ssi_types text/html;
    add_header X-Seen "$variant_button|$experiment_reason_button|$variant_hero" always;
    server {
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{port2} http2;
        root {folder}/www;
        location = /metrics { experiment off; experiment_metrics; }
        experiment button;
        recursive_error_pages on;

        location / { index index.html; }
        location = /index.html { proxy_pass http://{backend}; }
        location /more/ { experiment button hero; proxy_pass http://{backend}; }
        location /none/ { experiment off; proxy_pass http://{backend}; }

        location /rewrite/ { experiment off; rewrite ^ /more/rewritten last; }
        location /rewrite-back/ { experiment button hero;
            if ($variant_hero) { rewrite ^ /none/rewritten last; } }
        location /rewrite-break/ { rewrite ^ /more/broken break; proxy_pass http://{backend}; }
        location /set/ { set $was $variant_button; rewrite ^/set/(.*) /more/$was last; }

        location /error-uri/ { error_page 502 /more/fallback; proxy_pass http://127.0.0.1:1; }
        location /error-named/ { error_page 502 @fallback; proxy_pass http://127.0.0.1:1; }
        location /error-200/ { error_page 502 =200 @fallback; proxy_pass http://127.0.0.1:1; }
        location /error-intercept/ { proxy_intercept_errors on; error_page 503 =200 @fallback;
            proxy_pass http://{backend}; }
        location /error-deny/ { experiment off; error_page 403 = /more/denied; deny all; }
        location /error-twice/ { error_page 502 @first; proxy_pass http://127.0.0.1:1; }
        location @first { error_page 502 @fallback; proxy_pass http://127.0.0.1:1; }
        location @fallback { experiment button hero; proxy_pass http://{backend}; }

        location /try/ { try_files $uri $uri/ /more/tried; }
        location /try-named/ { try_files $uri @fallback; }
        location /try-file/ { try_files /page.html =404; }

        location /auth/ { auth_request /verdict; experiment button hero; proxy_pass http://{backend}; }
        location /auth-denied/ { auth_request /refuse; error_page 403 = @fallback;
            proxy_pass http://{backend}; }
        location = /verdict { internal; experiment hero; proxy_pass http://{backend}/verdict; }
        location = /refuse { internal; return 403; }

        location /ssi/ { ssi on; }
        location /ssi-proxied/ { ssi on; proxy_pass http://{backend}; }
        location /part/ { experiment all; proxy_pass http://{backend}; }
        location /part-cached/ { experiment all;
            proxy_cache pages; proxy_cache_key $uri; proxy_cache_valid 200 1h; proxy_pass http://{backend}; }
        location /part-off/ { experiment off; proxy_pass http://{backend}; }

        location /mirror/ { mirror /mirrored; proxy_pass http://{backend}; }
        location = /mirrored { internal; experiment all; proxy_pass http://{backend}; }
        location /accel/ { proxy_pass http://{backend}; }
        location /accel-in/ { internal; experiment button hero; alias {folder}/www/; }
        location /return/ { return 200 "$variant_button"; }
        location /if/ { if ($arg_more) { experiment button hero; } proxy_pass http://{backend}; }
        location /finalize/ { error_page 412 /more.html; }
        location = /more.html { experiment button hero; }
    }
"""
BOTH = document(experiment("button"), experiment("hero", ("control", "big")))


@pytest.fixture
def edge(edges, backend):
    backend.reset()
    # One worker: decisions are counted a moment after the answer has ended.
    edge = edges(CONF, BOTH, backend, workers=1)
    edge.wait(lambda: len(edge.worker_pids()) == edge.workers)
    www = edge.folder / "www"
    (www / "ssi").mkdir(parents=True)
    (www / "finalize").mkdir()
    (www / "page.html").write_text("a file")
    (www / "finalize" / "page.html").write_text("a file")
    for name in ("part", "part-off", "part-cached"):
        (www / "ssi" / f"{name}.html").write_text(
            f'<!--# include virtual="/{name}/1" --> and <!--# include virtual="/{name}/2" --> '
            '[<!--# echo var="variant_button" -->]')
    return edge


def counted(edge):
    """(exposures, decisions) by experiment."""
    totals = ({}, {})
    for line, value in edge.metrics().items():
        match = re.match(r'nginx_experiment_(exposures|decisions)_total\{experiment="([^"]+)"', line)
        if match:
            by = totals[match[1] == "decisions"]
            by[match[2]] = by.get(match[2], 0) + value
    return totals


def ours(headers):
    return sorted((k.lower(), v) for k, v in headers.items() if k.lower().startswith("experiment"))


def check_forwarded(backend, path, expected, requests=1):
    """Each request that reached the backend under `path` had our headers once, naming `expected`."""
    came = [headers for asked, headers in backend.requests if asked.startswith(path)]
    assert len(came) == requests, [asked for asked, _ in backend.requests]
    for headers in came:
        assert [name for name, _ in ours(headers)] == ["experiment-assignments", "experiment-cohort"]
        assert assignments(headers["Experiment-Assignments"]) == expected
        token = "~".join(f"{k}.{v}" for k, v in sorted(expected.items())) or "-"
        assert headers["Experiment-Cohort"] == token


# asked, where it ends at the backend, what applied
WAYS = [
    ("/", "/index.html", ["button"]),
    ("/more/x", "/more/x", ["button", "hero"]),
    ("/none/x", "/none/x", []),
    ("/rewrite/x", "/more/rewritten", ["button", "hero"]),
    ("/rewrite-back/x", "/none/rewritten", ["button", "hero"]),
    ("/rewrite-break/x", "/more/broken", ["button"]),
    ("/set/x", "/more/", ["button", "hero"]),
    ("/error-uri/x", "/more/fallback", ["button", "hero"]),
    ("/error-named/x", "/error-named/x", ["button", "hero"]),
    ("/error-200/x", "/error-200/x", ["button", "hero"]),
    ("/error-deny/x", "/more/denied", ["button", "hero"]),
    ("/error-twice/x", "/error-twice/x", ["button", "hero"]),
    ("/try/x", "/more/tried", ["button", "hero"]),
    ("/try-named/x", "/try-named/x", ["button", "hero"]),
    ("/auth/x", "/auth/x", ["button", "hero"]),
    ("/auth-denied/x", "/auth-denied/x", ["button", "hero"]),
    ("/if/x", "/if/x", ["button"]),
    ("/if/x?more=1", "/if/x", ["button", "hero"]),
]


@pytest.mark.parametrize("path, ends, applied", WAYS, ids=[way[0] for way in WAYS])
def test_one_decision_whatever_the_way(edge, backend, path, ends, applied):
    (edge.folder / "www" / "index.html").write_text("never served: its location is proxied")
    browser = Browser(edge.port)
    variants = None
    for times in (1, 2, 3):
        backend.requests.clear()
        answer = browser.go(path)
        seen = dict(zip(("button", "hero"), answer.header("X-Seen").split("|")[::2]))
        seen = {key: seen[key] for key in applied}
        assert all(seen.values()), answer.header("X-Seen")
        assert variants in (None, seen)
        variants = seen
        check_forwarded(backend, ends, variants)
        assert counted(edge) == ({"button": float("button" in applied), "hero": float("hero" in applied)},
                                 {key: float(times) for key in applied})
        assert len(answer.all("Cache-Control")) == (1 if applied else 0)
        assert len(answer.all("Set-Cookie")) == (2 if times == 1 and applied else 0)


def test_what_the_authorizer_is_told(edge, backend):
    """A subrequest hears what has been decided, under the main request's headers, and decides nothing."""
    browser = Browser(edge.port)
    browser.go("/auth/x")
    button, _, hero = browser.go("/auth/x").header("X-Seen").split("|")
    check_forwarded(backend, "/verdict", {"button": button, "hero": hero}, 2)
    assert counted(edge) == ({"button": 1, "hero": 1}, {"button": 2, "hero": 2})


def test_files_and_answers_without_a_backend(edge):
    for path, body in (("/try-file/x", "a file"), ("/page.html", "a file"), ("/return/x", None)):
        browser = Browser(edge.port)
        exposed, decided = counted(edge)
        answers = [browser.go(path) for _ in range(2)]
        variant = answers[0].header("X-Seen").split("|")[0]
        assert variant and {answer.text for answer in answers} == {body or variant}
        assert {answer.header("Cache-Control") for answer in answers} == {"private, no-cache"}
        now = counted(edge)
        assert now[0]["button"] == exposed.get("button", 0) + 1
        assert now[1]["button"] == decided.get("button", 0) + 2


@pytest.mark.parametrize("part", ["part", "part-off", "part-cached"])
def test_ssi_parts_follow_the_page(edge, backend, part):
    for _ in range(6):
        browser = Browser(edge.port)
        backend.requests.clear()
        for times in (1, 2):
            answer = browser.go(f"/ssi/{part}.html")
            variant = answer.header("X-Seen").split("|")[0]
            assert variant and answer.text.endswith(f"[{variant}]")
            parts = re.findall(r"\{.*?\"headers\".*?\]\]\}", answer.text)
            heard = [json.loads(text) for text in parts]
            assert [assignments(part["assignments"]) for part in heard] == [{"button": variant}] * 2
            assert {part["cohort"] for part in heard} == {f"button.{variant}"}
        assert all([name for name, _ in ours(headers)] == ["experiment-assignments", "experiment-cohort"]
                   for _, headers in backend.requests)
    assert counted(edge) == ({"button": 6, "hero": 0}, {"button": 12})


def test_placed_in_a_part_only_warns_once_a_request(edges, backend):
    backend.reset()
    edge = edges("""
        server { listen 127.0.0.1:{port}; root {folder}/www;
            location = /metrics { experiment_metrics; }
            location / { ssi on; }
            location /part/ { experiment all; return 200 "<$variant_button$experiment_reason_button>"; } }
    """, document(experiment("button")), backend)
    (edge.folder / "www").mkdir()
    (edge.folder / "www" / "page.html").write_text(
        '<!--# include virtual="/part/1" --><!--# include virtual="/part/2" -->')
    assert Browser(edge.port).go("/page.html").text == "<subrequest><subrequest>"
    assert len(edge.wait_log("placed in a subrequest only")) == 1
    assert counted(edge) == ({"button": 0}, {})


def test_a_mirror_is_told_and_not_counted(edge, backend):
    browser = Browser(edge.port)
    variant = browser.go("/mirror/x").header("X-Seen").split("|")[0]
    edge.wait(lambda: len(backend.requests) == 2)
    check_forwarded(backend, "/mirror", {"button": variant}, 2)
    assert counted(edge) == ({"button": 1, "hero": 0}, {"button": 1})


def test_accel_redirect(edge, backend):
    backend.answer = lambda path, headers: (200, [("X-Accel-Redirect", "/accel-in/page.html")], b"")
    browser = Browser(edge.port)
    for times in (1, 2):
        answer = browser.go("/accel/x")
        assert answer.text == "a file"
        button, _, hero = answer.header("X-Seen").split("|")
        assert answer.header("ETag").endswith(f';exp=button.{button}~hero.{hero}"')
        assert counted(edge) == ({"button": 1, "hero": 1}, {"button": times, "hero": times})
    check_forwarded(backend, "/accel/x", {"button": button}, 2)  # the first location does not name the other
    assert browser.go("/accel/x", {"If-None-Match": answer.header("ETag")}).status == 304


def test_an_intercepted_error_is_replaced(edge, backend):
    backend.answer = lambda path, headers: ((503, [], b"no") if len(backend.requests) % 2
                                            else backend.echo(path, headers))
    browser = Browser(edge.port)
    for times in (1, 2):
        answer = browser.go("/error-intercept/x")
        button, _, hero = answer.header("X-Seen").split("|")
        heard = assignments(json.loads(answer.text)["assignments"])
        assert (answer.status, heard) == (200, {"button": button, "hero": hero})
        assert counted(edge) == ({"button": 1, "hero": 1}, {"button": times, "hero": times})
    assert all([name for name, _ in ours(headers)] == ["experiment-assignments", "experiment-cohort"]
               for _, headers in backend.requests)


def test_a_filter_that_ends_the_answer(edge, backend):
    """not_modified turns the answer into a 412 behind our first filter, twice."""
    (edge.folder / "www" / "more.html").write_text("another file")
    browser = Browser(edge.port)
    for times in (1, 2):
        answer = browser.go("/finalize/page.html", {"If-Match": '"another"'})
        button, _, hero = answer.header("X-Seen").split("|")
        assert answer.status == 412 and button and hero
        assert counted(edge) == ({"button": 1, "hero": 1}, {"button": times, "hero": times})
        assert answer.all("Cache-Control") == ["private, no-cache"]
        assert len(answer.all("Set-Cookie")) == (2 if times == 1 else 0)


def test_a_tag_of_fewer_experiments_is_not_enough(edge, backend):
    """A page reached by an internal redirect, kept from the time when only the first location was placed."""
    def answer(path, headers):
        if headers.get("If-None-Match") == '"x"':
            return 304, [("ETag", '"x"')], b""
        return 200, [("Content-Type", "text/html"), ("ETag", '"x"')], json.dumps(ours(headers)).encode()

    backend.answer = answer
    browser = Browser(edge.port)
    (edge.folder / "www" / "index.html").write_text("")
    whole = browser.go("/try/x").header("ETag")
    button, _, hero = browser.go("/try/x").header("X-Seen").split("|")
    assert whole == f'"x;exp=button.{button}~hero.{hero}"'
    assert browser.go("/try/x", {"If-None-Match": f'"x;exp=button.{button}"'}).status == 200
    assert browser.go("/more/x", {"If-None-Match": whole}).status == 304


# Protocols

def test_http2(edge, backend):
    body, jar = str(edge.folder / "body"), str(edge.folder / "jar")
    command = ["curl", "-s", "--http2-prior-knowledge", "-D", "-", "-o", body, "-c", jar, "-b", jar,
               f"http://127.0.0.1:{edge.port2}/more/x"]
    for name, value in NAVIGATION.items():
        command += ["-H", f"{name}: {value}"]
    heads = []
    for more in ([], [], ["-H", "experiment-cohort: forged"]):
        done = subprocess.run(command + more, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0 and done.stdout.startswith("HTTP/2 200"), done.stderr
        heads.append(done.stdout)
        told = json.loads((edge.folder / "body").read_text())
        assert set(assignments(told["assignments"])) == {"button", "hero"}
        assert "forged" not in told["cohort"]
    assert heads[0].count("set-cookie") == 2 and "set-cookie" not in heads[1] + heads[2]
    first, second = (re.search("x-seen: .*", head)[0] for head in heads[:2])
    assert first.replace("split", "sticky") == second
    assert counted(edge) == ({"button": 1, "hero": 1}, {"button": 3, "hero": 3})


def raw(edge, data, end=False):
    """What comes back until the server closes; `end`: nothing more will be sent, and it is told so."""
    with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as connection:
        connection.sendall(data)
        if end:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while more := connection.recv(65536):
            answer += more
    return answer


@pytest.mark.parametrize("path", ["/", "/more/x", "/none/x", "/page.html", "/ssi/part.html", "/return/x",
                                  "/error-uri/x", "/nowhere"])
def test_old_protocols(edge, backend, path):
    (edge.folder / "www" / "index.html").write_text("")
    workers = set(edge.worker_pids())
    nine = raw(edge, f"GET {path}\r\n".encode())
    assert not nine.startswith(b"HTTP/") and b"Set-Cookie" not in nine
    navigation = "".join(f"{k}: {v}\r\n" for k, v in NAVIGATION.items())
    for lines in ("", navigation):
        ten = raw(edge, f"GET {path} HTTP/1.0\r\n{lines}\r\n".encode())
        head = ten.partition(b"\r\n\r\n")[0]
        assert head.startswith(b"HTTP/1.1 ")
        assert head.count(b"Set-Cookie") == (2 if lines and path != "/none/x" else 0)
    assert set(edge.worker_pids()) == workers


MALFORMED = {
    "nothing": b"", "newline": b"\r\n", "letter": b"G", "line": b"GET /more/x",
    "no end": b"GET /more/x HTTP/1.1\r\n",
    "no host": b"GET /more/x HTTP/1.1\r\n\r\n", "empty host": b"GET /more/x HTTP/1.1\r\nHost:\r\n\r\n",
    "version": b"GET /more/x HTTP/9.9\r\n\r\n", "tls": b"\x16\x03\x01\x02\0\x01",
    "two hosts": b"GET /more/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "escape": b"GET /more/%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    "long header": b"GET /more/x HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40000 + b"\r\n\r\n",
    "long line": b"GET /" + b"x" * 40000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "length": b"POST /more/x HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
}


@pytest.mark.parametrize("bad", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests_end_no_worker(edge, bad):
    workers = set(edge.worker_pids())
    raw(edge, bad, end=True)
    assert Browser(edge.port).go("/more/x").status == 200
    assert set(edge.worker_pids()) == workers
