"""Without the module's directives nothing changes: an nginx that loaded the module answers as one that did not."""
import os
import pathlib
import re
import socket

import pytest
from lib.client import NAVIGATION, get

CONF = """
    log_format told "$status $upstream_http_experiment_reward $sent_http_vary $http_experiment_cohort";
    server {
        listen 127.0.0.1:{port};
        location / { proxy_pass http://{backend}; }
        location /cached/ { proxy_cache pages; proxy_cache_valid 1m; proxy_pass http://{backend}; }
        location /index/ { alias {folder}/pages/; add_header Cache-Control public; }
        location /gone/ { return 302 /index/; }
        location /off/ { proxy_pass http://127.0.0.1:1; error_page 502 = /index/index.html; }
    }
"""
REQUESTS = [("/", {}, "GET"), ("/", NAVIGATION, "GET"), ("/", NAVIGATION, "HEAD"),
            ("/page?a=1", {"Cookie": "uid=x; exp=y"}, "GET"),
            ("/forged", {"Experiment-Assignments": "a=b", "Experiment_Cohort": "c", "Experiment-Cohort": "d"}, "GET"),
            ("/cached/1", NAVIGATION, "GET"), ("/cached/1", NAVIGATION, "GET"), ("/cached/1", {"If-None-Match": '"v1"'}, "GET"),
            ("/index/", NAVIGATION, "GET"), ("/index/index.html", {"Range": "bytes=2-5"}, "GET"), ("/gone/", {}, "GET"),
            ("/off/", {}, "GET"), ("/absent", {}, "POST")]


def raw(port, path, headers, method):
    """The bytes of an answer, but for the date and the port."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        lines = [f"{method} {path} HTTP/1.1", "Host: shop.example", "Connection: close", "Content-Length: 0",
                 *(f"{name}: {value}" for name, value in headers.items())]
        connection.sendall("\r\n".join(lines + ["", ""]).encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return re.sub(rb"Date: [^\r]+", b"Date: now", answer).replace(str(port).encode(), b"PORT")


def pages(path, headers):
    extra = [("Experiment-Reward", "purchase"), ("Vary", "Accept-Encoding"), ("ETag", '"v1"')]
    body = repr(sorted((k, v) for k, v in headers.items() if k != "Host" and k != "X-Port")).encode()
    return 200, [("Content-Type", "text/html"), ("Cache-Control", "public"), *extra], body


def test_answers_are_the_same_bytes(edges, backend):
    backend.reset()
    backend.answer = pages
    with_module = edges(CONF, None, backend, zone="", start=False)
    without = edges(CONF, None, backend, zone="", start=False)
    head = (without.folder / "nginx.conf").read_text()
    (without.folder / "nginx.conf").write_text(re.sub("load_module .*;", "", head))
    for edge in (with_module, without):
        (edge.folder / "pages").mkdir()
        page = edge.folder / "pages" / "index.html"
        page.write_text("<h1>a page</h1>")
        os.utime(page, (1_700_000_000, 1_700_000_000))
        edge.state.rmdir()
        edge.start()
    for path, headers, method in REQUESTS:
        answers = [raw(edge.port, path, headers, method) for edge in (with_module, without)]
        assert answers[0] == answers[1], (path, answers)
        assert answers[0].startswith(b"HTTP/1.1 ")
    assert b"ngx_http_experiment_module" in pathlib.Path(f"/proc/{with_module.pid}/maps").read_bytes()
    assert b"ngx_http_experiment_module" not in pathlib.Path(f"/proc/{without.pid}/maps").read_bytes()
    # No zone: the shared memory of both masters is the same.
    shared = [[line.split()[4:5] + [int(line.split("-")[1].split()[0], 16) - int(line.split("-")[0], 16)]
               for line in pathlib.Path(f"/proc/{edge.pid}/maps").read_text().splitlines() if "rw-s" in line]
              for edge in (with_module, without)]
    assert [size for _, size in shared[0]] == [size for _, size in shared[1]]
    for edge in (with_module, without):
        edge.reload()
        assert not edge.state.exists() and "experiment" not in re.sub(r"ngx_http_experiment_module|/\S*", "", edge.text())
        assert {path.name for path in edge.folder.iterdir()} == {path.name for path in with_module.folder.iterdir()}


@pytest.mark.parametrize("name", ["variant_button", "experiment_reason_button", "experiment_epoch_button",
                                  "experiment_propensity_button", "experiment_cohort", "experiment_cache_key",
                                  "experiment_assignments", "experiment_unit_hash"])
def test_no_variable_exists(edges, name):
    edge = edges('server { listen 127.0.0.1:{port}; return 200 "$%s"; }' % name, None, zone="", start=False,
                 allowed=r"\[emerg\]")
    done = edge.test()
    assert done.returncode == 1 and f'unknown "{name}" variable' in done.stderr
    # With a zone it does.
    edge.configure('server { listen 127.0.0.1:{port}; return 200 "$%s"; }' % name,
                   zone="experiment_zone zone=e:8m state={folder}/state; experiment_unit visitor cookie=uid;")
    assert edge.test().returncode == 0


def test_a_configuration_without_http_loads(edges):
    edge = edges("", None, start=False)
    conf = (edge.folder / "nginx.conf").read_text()
    (edge.folder / "nginx.conf").write_text(conf[:conf.index("http {")])
    assert edge.test().returncode == 0
    done = edge.command()
    assert done.returncode == 0
    pid = edge.folder / "nginx.pid"
    edge.pid = int(edge.wait(lambda: pid.exists() and pid.read_text().strip()))
    edge.wait(lambda: len(edge.worker_pids()) == edge.workers)
    edge.reload()


def test_a_zone_without_placements_touches_only_what_is_documented(edges, backend):
    """Stripping and `none` hold in every server; the answer to the client stays as it was."""
    backend.reset()
    backend.answer = pages
    zone = "experiment_zone zone=e:8m state={folder}/state; experiment_unit visitor cookie=uid mint;"
    edge = edges(CONF, '{"schema": 1, "experiments": []}', backend, zone=zone)
    plain = edges(CONF, None, backend, zone="")
    for path, headers, method in REQUESTS:
        if path in ("/index/", "/index/index.html", "/off/"):
            continue
        head = [raw(e.port, path, headers, method).split(b"\r\n\r\n")[0].split(b"\r\n") for e in (edge, plain)]
        strip = lambda lines: [line for line in lines if not line.startswith((b"Experiment-Reward:", b"Content-Length:"))]
        assert strip(head[0]) == strip(head[1]), path
    told = {k.lower(): v for k, v in backend.requests[0][1].items()}
    assert (told["experiment-assignments"], told["experiment-cohort"]) == ("none", "-")
    assert get(edge.port, "/").header("Experiment-Reward") is None
