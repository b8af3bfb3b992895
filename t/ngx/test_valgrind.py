"""A few requests of each kind under memcheck: no error and no leak with a frame of ours in its stack."""
import os
import re
import shutil
import signal
import subprocess

import pytest

from lib import sanitizer
from lib.client import Browser, get
from lib.edge import MODULE, ROOT, Edge, document, experiment

VALGRIND = [shutil.which("valgrind") or "valgrind", "--quiet", "--leak-check=full",
            "--show-leak-kinds=definite,indirect", "--keep-debuginfo=yes", "--num-callers=40"]
OURS = re.compile(r"experiment::|ngx_http_experiment_module\.so|\bfault \(")


def errors(folder):
    """Each error that memcheck wrote of, with a frame of ours; nginx leaves some of its own."""
    texts = [path.read_text(errors="replace") for path in sorted(folder.glob("memcheck.*"))]
    blocks = [block for text in texts for block in re.split(r"(?m)^==\d+== *\n", text)]
    return [block for block in blocks if OURS.search(block)]


@pytest.mark.parametrize("kind,message", [
    ("none", None), ("overflow", "Invalid read"), ("leak", "definitely lost")])
def test_an_error_is_seen(tmp_path, kind, message):
    for options, source, made in ((["-shared", "-fPIC"], "fault.c", "fault.so"), ([], "host.c", "host")):
        subprocess.run(["gcc", "-g", *options, ROOT / "t/lib" / source, "-o", tmp_path / made], check=True)
    subprocess.run([*VALGRIND, f"--log-file={tmp_path}/memcheck.%p", tmp_path / "host", tmp_path / "fault.so",
                    kind], check=True)
    found = errors(tmp_path)
    assert bool(found) == bool(message) and (not message or message in found[0])


class Watched(Edge):
    def line(self, *args):
        self.reports.mkdir(exist_ok=True)
        self.reports.chmod(0o777)  # workers run as nobody
        return [*VALGRIND, f"--log-file={self.reports}/memcheck.%p", *super().line(*args)]

    @staticmethod
    def wait(condition, seconds=60, step=0.05):
        return Edge.wait(condition, seconds, step)


HTTP = """
    server {
        listen 127.0.0.1:{port};
        experiment all;
        add_header X-Arm $variant_button;
        location / { proxy_pass http://{backend}; }
        location /cached { proxy_cache pages; proxy_cache_valid 1m; proxy_pass http://{backend}; }
        location /plain { return 200 $variant_button; }
        location /bought { experiment_reward purchase; return 200 ok; }
        location /beacon { experiment_beacon; }
        location /metrics { experiment_metrics; }
    }
"""


@pytest.mark.skipif(bool(sanitizer.runtimes(MODULE)), reason="memcheck and ASan exclude each other")
def test_requests_of_each_kind(folder, backend):
    edge = Watched(folder, HTTP, document(experiment("button")), backend=backend, workers=1, daemon=False,
                   start=False)
    try:
        edge.start()
        def visit():
            browser = Browser(edge.port)
            for path in ("/", "/cached", "/cached", "/plain", "/bought"):
                assert browser.go(path).status == 200
            sent = browser.fetch("/beacon", {"Content-Type": "application/json"}, method="POST",
                                 body='{"goal":"purchase","id":"o-1"}')
            assert sent.status == 204
            browser.cookies["__Host-experiment"] = "broken"
            assert browser.go("/").status == 200
            assert get(edge.port, "/nowhere", {"Cookie": "a" * 3000}).status == 200
            assert b"nginx_experiment_" in get(edge.port, "/metrics", timeout=60).body

        edge.wait(lambda: Browser(edge.port).go("/").header("X-Arm"))
        visit()
        edge.define(document(experiment("button", ("control", "green", "blue")), experiment("hero")))
        edge.wait(lambda: edge.lines("definitions 2 in use"))
        visit()
        before = set(edge.children())
        edge.send(signal.SIGHUP)
        edge.wait(lambda: (now := set(edge.children())) and not now & before)
        visit()
        edge.send(signal.SIGQUIT)
        edge.wait(lambda: edge.child.poll() is not None)
    finally:
        if edge.child.poll() is None:
            for pid in (*edge.children(), edge.child.pid):
                os.kill(pid, signal.SIGKILL)
        edge.child.wait(10)
    assert len(list(edge.reports.glob("memcheck.*"))) >= 3  # the master and two generations of workers
    found = errors(edge.reports)
    assert not found, found[0]
    edge.pid = None
    shutil.rmtree(edge.reports)
    edge.end()
