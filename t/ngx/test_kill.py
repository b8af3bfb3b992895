"""A kill: within a second everywhere, by file or by experimentctl, whatever else happens, until somebody resumes."""
import os
import signal
import threading
import time

import pytest
from lib.client import Browser, get
from lib.edge import document, experiment

CONF = """
    server {
        listen 127.0.0.1:{port};
        location / {
            experiment all;
            return 200 "$variant_button|$experiment_reason_button|$variant_other|$experiment_reason_other|$pid";
        }
        location = /thanks { experiment all; experiment_reward purchase; return 200 ""; }
        location = /metrics { experiment_metrics; }
    }
"""
UNITS = [str(n) for n in range(24)]
DOCUMENT = document(experiment("button", unit="account"), experiment("other", ("a", "b"), unit="account"))


def ask(edge, unit):
    return get(edge.port, "/", {"X-Account": unit}).text.split("|")


@pytest.fixture
def edge(edges):
    edge = edges(CONF, DOCUMENT, workers=4, allowed="exited on signal 9")
    edge.before = {unit: ask(edge, unit)[0] for unit in UNITS}
    assert set(edge.before.values()) == {"control", "green"}
    return edge


def told_in_time(edge, holds, seconds=1.0):
    """Asserts that from `seconds` on no worker answers otherwise, while clients never stopped asking."""
    stop, late, pids = threading.Event(), [], set()
    began = time.monotonic()

    def hammer(offset):
        n = offset
        while not stop.is_set():
            unit = UNITS[n % len(UNITS)]
            asked = time.monotonic()
            told = ask(edge, unit)
            if asked - began >= seconds:
                pids.add(told[4])
                if not holds(unit, *told[:4]):
                    late.append((round(asked - began, 3), unit, *told))
            n += 1

    threads = [threading.Thread(target=hammer, args=(offset,)) for offset in (0, 7)]
    for thread in threads:
        thread.start()
    try:
        edge.wait(lambda: len(pids) == edge.workers or late)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not late, late[:5]


def is_dead(unit, variant, reason, other, other_reason):
    return variant == "" and reason == "killed" and other in ("a", "b") and other_reason == "split"


def everything_is_dead(unit, variant, reason, other, other_reason):
    return variant == other == "" and reason == other_reason == "killed"


def lives(edge):
    return lambda unit, variant, *_: variant == edge.before[unit]


def green_is_dead(edge):
    return lambda unit, variant, reason, *_: (variant, reason) == (("", "killed") if edge.before[unit] == "green" else
                                                                   ("control", "split"))


@pytest.mark.parametrize("target, expected", [
    ("button", lambda _: is_dead), ("button/green", green_is_dead), ("*", lambda _: everything_is_dead)])
def test_the_kill_file_reaches_every_worker_within_a_second(edge, target, expected):
    edge.kill_file.write_text(f"# since 10:40\n{target}  # errors\n")
    told_in_time(edge, expected(edge))
    assert len(edge.lines(r"\[warn\].* killed by \S+/kill line 2")) == 1


@pytest.mark.parametrize("target, expected", [
    ("button", lambda _: is_dead), ("button/green", green_is_dead), ("--all", lambda _: everything_is_dead)])
def test_experimentctl_kills_and_resumes_within_a_second(edge, target, expected):
    edge.ctl("kill", target, "--reason", "it breaks", check=True)
    told_in_time(edge, expected(edge))
    edge.reload()
    told_in_time(edge, expected(edge), seconds=0)
    edge.ctl("resume", target, "--reason", "it is mended", check=True)
    told_in_time(edge, lives(edge))


def test_a_kill_outlives_everything_but_resume(edge):
    edge.kill_file.write_text("button\n")
    told_in_time(edge, is_dead)
    edge.wait(lambda: edge.runtime("button")["kills"])
    refused = edge.ctl("resume", "button", "--reason", "too early")
    assert refused.returncode == 1 and "line 1 still kills button" in refused.stderr
    told_in_time(edge, is_dead, seconds=0)

    edge.kill_file.write_text("")  # as /run is after a reboot
    told_in_time(edge, is_dead)
    edge.kill_file.unlink()
    edge.reload()
    told_in_time(edge, is_dead, seconds=0)
    edge.stop()
    edge.start()
    told_in_time(edge, is_dead, seconds=0)

    # All at once, as a machine that loses power.
    pids = [edge.pid, *edge.children()]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    edge.wait(lambda: not edge.listening())
    edge.pid = None
    (edge.folder / "nginx.pid").unlink()
    edge.start()
    told_in_time(edge, is_dead, seconds=0)

    # Published again with other weights, without it, and with it again.
    other = experiment("other", ("a", "b"), unit="account")
    edge.define(document(experiment("button", [{"key": "control", "weight": 3}, "green"], unit="account"), other))
    edge.wait_log("definitions 2 in use")
    told_in_time(edge, is_dead)
    edge.define(document(other))
    edge.wait(lambda: ask(edge, "1")[1] == "unknown")
    edge.define(DOCUMENT)
    told_in_time(edge, is_dead)

    edge.ctl("resume", "button", "--reason", "mended", check=True)
    told_in_time(edge, lambda unit, variant, *_: variant in ("control", "green"))
    edge.reload()
    told_in_time(edge, lambda unit, variant, *_: variant in ("control", "green"), seconds=0)


def test_a_kill_works_while_old_workers_drain(edges, backend):
    """A reload must not leave the node without a leader while somebody's download lasts."""
    slow = threading.Event()
    backend.reset()
    backend.answer = lambda path, headers: (slow.wait(8), (200, [("Content-Type", "text/html")], b"done"))[1]
    drain = "location = /slow { proxy_pass http://{backend}/$pid; } location = /thanks"
    downloads = []
    try:
        edge = edges(CONF.replace("location = /thanks", drain), DOCUMENT, backend, workers=2)
        while len({path for path, _ in backend.requests}) < 2:
            downloads.append(threading.Thread(target=get, args=(edge.port, "/slow")))
            downloads[-1].start()
            edge.wait(lambda: len(backend.requests) == len(downloads))
        edge.reload()
        assert sum(b"shutting down" in edge.title(pid) for pid in edge.children()) == 2
        edge.kill_file.write_text("button\n")
        told_in_time(edge, is_dead)
    finally:
        slow.set()
    for download in downloads:
        download.join()


def read_only(edge):
    os.chmod(edge.state, 0o555)
    os.chown(edge.state, 0, 0)


@pytest.mark.skipif(os.getuid() != 0, reason="gives the state directory away")
def test_a_kill_file_works_without_a_writable_state_directory(edge):
    edge.wait(lambda: (edge.state / "definitions.good.json").exists())
    read_only(edge)
    edge.kill_file.write_text("button/green\n")
    told_in_time(edge, green_is_dead(edge))
    assert edge.wait_log(r"\[error\].*runtime state not written")
    edge.kill_file.write_text("")
    told_in_time(edge, green_is_dead(edge))
    edge.give(edge.state)
    os.chmod(edge.state, 0o755)
    edge.wait(lambda: edge.runtime("button")["kills"])  # and is recorded as soon as it can be


def test_visitors_of_a_killed_arm_are_not_counted_and_the_others_keep_theirs(edges):
    conf = CONF.replace("$experiment_reason_button", "$experiment_reason_button$experiment_epoch_button")
    edge = edges(conf, document(experiment("button")), workers=2)
    visitors = [Browser(edge.port) for _ in range(20)]
    before = [visitor.go("/").text.split("|")[0] for visitor in visitors]
    edge.kill_file.write_text("button/green\n")
    edge.wait(lambda: edge.lines("killed by"))
    edge.wait(lambda: "killed" in visitors[before.index("green")].go("/").text)
    pages = {k: v for k, v in edge.metrics().items() if "green" in k and ("exposures" in k or "requests_total" in k)}
    cookies = [dict(visitor.cookies) for visitor in visitors]
    for visitor, had in zip(visitors, before):
        told, reason = visitor.go("/").text.split("|")[:2]
        assert told == ("" if had == "green" else had)
        assert (reason == "killed") == (had == "green")
        visitor.go("/thanks")
    # New ones: those who would have got green are nobody's, and nothing is remembered of it.
    for _ in range(20):
        visitor = Browser(edge.port)
        told = visitor.go("/").text.split("|")
        assert told[0] in ("", "control") and ("exp" in visitor.cookies) == (told[0] == "control")
    now = {k: v for k, v in edge.metrics().items() if k in pages}
    assert now == pages
    assert [dict(visitor.cookies)["uid"] for visitor in visitors] == [c["uid"] for c in cookies]
    edge.kill_file.write_text("")
    edge.ctl("resume", "button/green", "--reason", "mended", check=True)
    edge.wait(lambda: visitors[before.index("green")].go("/").text.startswith("green"))
    assert [visitor.go("/").text.split("|")[0] for visitor in visitors] == before


def test_the_next_epoch_gives_a_killed_arms_slots_away(edges):
    adaptive = experiment("button", ("a", "b", "c"), allocation={
        "policy": "thompson", "goal": "purchase", "min_epoch": "1s",
        "warm_up": {"exposures": 100000, "successes": 1000, "for": "24h"}})
    edge = edges(CONF, document(adaptive), workers=2)
    first = edge.wait(lambda: (edge.state / "runtime.json").exists() and edge.runtime("button")["epochs"])
    assert len(first) == 1 and min(first[0]["quotas"]) > 3000
    edge.ctl("kill", "button/b", "--reason", "it breaks", check=True)
    epochs = edge.wait(lambda: len(found := edge.runtime("button")["epochs"]) == 2 and found)
    assert epochs[1]["quotas"][1] == 0 and sum(epochs[1]["quotas"]) == 10000 and min(epochs[1]["quotas"][::2]) == 5000
    edge.wait(lambda: edge.metrics()['nginx_experiment_epoch{experiment="button"}'] == 2)
    assert {Browser(edge.port).go("/").text.split("|")[0] for _ in range(40)} == {"a", "c"}


def test_bad_lines_are_named_and_the_others_hold(edge):
    edge.kill_file.write_text("button green\nbutton/green # yes\n\nOTHER\nother/\n/b\nothe*\n")
    told_in_time(edge, lambda unit, *told: green_is_dead(edge)(unit, *told) and told[3] == "split")
    for number, text in ((1, "button green"), (4, "OTHER"), (5, "other/"), (6, "/b"), (7, r"othe\*")):
        assert len(edge.lines(rf'\[error\].*/kill line {number}: "{text}", expected KEY, KEY/VARIANT or \*; '
                              "the other lines hold")) == 1, (text, edge.lines("kill line"))
    assert len(edge.lines(r"\[error\]")) == 5


def test_a_kill_before_the_experiment_exists_holds_when_it_comes(edges):
    edge = edges(CONF, document(experiment("other", ("a", "b"), unit="account")), workers=4)
    edge.before = {}
    edge.kill_file.write_text("button\n")
    edge.wait_log("killed by")
    edge.define(DOCUMENT)
    edge.wait_log("definitions 2 in use")
    told_in_time(edge, lambda unit, variant, reason, *_: variant == "" and reason in ("unknown", "killed"), seconds=0)
    edge.wait(lambda: ask(edge, "1")[1] == "killed")
