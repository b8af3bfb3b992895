"""The state directory missing, unwritable, full, damaged or shared: one line that says so, and traffic goes on."""
import json
import os
import re
import signal
import subprocess

import pytest
from lib.client import Browser, get
from lib.edge import document, experiment

CONF = """
    server {
        listen 127.0.0.1:{port};
        location / { experiment all; return 200 "$variant_button|$experiment_epoch_button|$experiment_reason_button|$pid"; }
        location = /metrics { experiment_metrics; }
    }
"""
ZONE = """
    experiment_zone zone=experiments:{size} state=%s;
    experiment_unit visitor cookie=__Host-uid mint;
    experiment_unit account header=X-Account;
    experiment_kill_file {folder}/kill;
"""
BUTTON = document(experiment("button", unit="account"))
UNITS = [str(n) for n in range(30)]
as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs to give directories away or to mount")


def ask(edge, unit):
    return get(edge.port, "/", {"X-Account": unit}).text.split("|")


def answers(edge):
    return {unit: ask(edge, unit)[:2] for unit in UNITS}


def errors(edge):
    return edge.lines(r"\[(error|crit)\]")


def causes(edge):
    """How often each complaint was made, without time and process."""
    told = {}
    for line in errors(edge):
        text = re.sub(r"^.*?experiment: ", "", line)
        told[text] = told.get(text, 0) + 1
    return told


def has_lost_green(edge, before):
    return all(ask(edge, unit)[0] == ("" if was[0] == "green" else "control") for unit, was in before.items())


def survivors(answered):
    return {unit: told for unit, told in answered.items() if told[0] not in ("", "green")}


def status(edge, key="button"):
    told = json.loads(edge.ctl("status", "--json", check=True).stdout)["experiments"]
    return next(one for one in told if one["key"] == key)


def exposures(edge):
    return {one["key"]: one["exposures"] for one in status(edge)["variants"]}


def kill_everything(edge):
    pids = [edge.pid, *edge.children()]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    edge.wait(lambda: not edge.listening())
    edge.pid = None
    (edge.folder / "nginx.pid").unlink()


def test_a_missing_directory_is_made_for_the_workers(edges):
    edge = edges(CONF, None, start=False)
    edge.state.rmdir()
    edge.start()
    assert edge.state.is_dir() and (edge.state.stat().st_mode & 0o777) == 0o750
    if os.getuid() == 0:
        assert edge.state.owner() == "nobody"
    edge.define(BUTTON)
    edge.wait(lambda: ask(edge, "1")[0])
    edge.wait(lambda: (edge.state / "runtime.json").exists())
    keys = edge.state / "keys"
    assert (keys.stat().st_mode & 0o777) == 0o600 and len(edge.lines("keys in the state directory")) == 0


def test_a_missing_parent_is_named_and_traffic_goes_on(edges):
    edge = edges(CONF, None, zone=ZONE % "{folder}/absent/state", workers=2)
    for unit in UNITS:
        assert ask(edge, unit)[0] == ""
    assert edge.wait_log(r'\[error\].*state directory "\S+/absent/state" cannot be made; '
                         r"experiments run from nothing and nothing is kept \(2: No such file or directory\)")
    assert Browser(edge.port).go("/").status == 200
    for text, times in causes(edge).items():
        assert times == 1, (text, times)


@as_root
@pytest.mark.parametrize("way", ["owner", "mount"])
def test_a_read_only_directory(edges, way):
    """Traffic and kills go on; what happened is written down as soon as it can be."""
    edge = edges(CONF, document(experiment("button", unit="account"), experiment("visit")), workers=2, start=False)
    if way == "owner":
        os.chown(edge.state, 0, 0)
        os.chmod(edge.state, 0o555)
    else:
        done = subprocess.run(["mount", "--bind", edge.state, edge.state], capture_output=True)
        if done.returncode != 0:
            pytest.skip("may not mount")
        subprocess.run(["mount", "-o", "remount,ro,bind", edge.state], check=True)
    try:
        edge.start()
        before = answers(edge)
        assert {variant for variant, _ in before.values()} == {"control", "green"}
        visitor = Browser(edge.port)
        visitor.go("/")
        for _ in range(20):  # whatever worker answers, the visitor is known
            cookie = visitor.cookies["exp"]
            visitor.go("/")
            assert visitor.cookies["exp"] == cookie
        assert edge.metrics()["nginx_experiment_cookies_refused_total"] == 0
        reason = "Permission denied" if way == "owner" else "Read-only file system"
        assert edge.wait_log(r"\[error\].*" + reason)
        edge.kill_file.write_text("button/green\n")
        edge.wait(lambda: has_lost_green(edge, before))
        # Nobody takes back what the node knows, also when another worker leads and the line is gone.
        edge.kill_file.write_text("")
        first_epoch = edge.metrics()['nginx_experiment_epoch{experiment="visit"}']
        edge.reload()
        edge.wait_log("taken over what the store has not got yet")
        assert has_lost_green(edge, before) and survivors(answers(edge)) == survivors(before)
        assert edge.metrics()['nginx_experiment_epoch{experiment="visit"}'] == first_epoch
        # Once by the leader, once by the one after it, once by a worker that ended with counts.
        assert max(causes(edge).values()) <= 3, causes(edge)
    finally:
        if way == "mount":
            subprocess.run(["umount", edge.state], check=True)
    os.chmod(edge.state, 0o755)
    edge.give(edge.state)
    edge.wait(lambda: (edge.state / "runtime.json").exists() and edge.runtime("button")["kills"])


@as_root
def test_a_full_disk(edges):
    edge = edges(CONF, None, workers=2, start=False)
    options = f"size=64k,mode=755,uid={edge.state.stat().st_uid}"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", edge.state], capture_output=True)
    if done.returncode != 0:
        pytest.skip("may not mount")
    try:
        (edge.state / "definitions.json").write_text(json.dumps(BUTTON))
        edge.start()
        before = answers(edge)
        edge.wait(lambda: edge.runtime("button")["epochs"])
        kept = (edge.state / "runtime.json").read_bytes()
        fill = edge.state / "fill"
        with open(fill, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 1024)
            except OSError:
                pass
        edge.kill_file.write_text("button/green\n")
        edge.wait(lambda: has_lost_green(edge, before))
        assert edge.wait_log(r"\[error\].*runtime\.json: No space left on device; runtime state not written, "
                             r"version \d+ stays in use")
        assert (edge.state / "runtime.json").read_bytes() == kept  # whole, as it was
        assert not list(edge.state.glob("*.tmp"))
        assert max(causes(edge).values()) == 1, causes(edge)
        fill.unlink()
        edge.wait(lambda: edge.runtime("button")["kills"])
        edge.stop()
        edge.start()
        assert has_lost_green(edge, before) and survivors(answers(edge)) == survivors(before)
    finally:
        edge.stop()
        subprocess.run(["umount", edge.state], check=True)


@pytest.mark.parametrize("damage", [lambda text: text[:len(text) // 2], lambda text: b"", lambda text: b"\0" * len(text),
                                    lambda text: text.replace(b'"variant":"green"', b'"variant":"blue!"'),
                                    lambda text: b'{"format":1,"checksum":"0","state":{"version":9,"kill_all":[],"experiments":{}}}'])
def test_a_damaged_runtime_state_loses_no_kill(edges, damage):
    edge = edges(CONF, BUTTON, workers=2)
    before = answers(edge)
    edge.ctl("kill", "button/green", "--reason", "it breaks", check=True)
    edge.wait(lambda: has_lost_green(edge, before))
    path = edge.state / "runtime.json"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert edge.wait_log(r"\[error\].*runtime\.json: ")
    edge.wait(lambda: b"it breaks" in path.read_bytes() and edge.runtime("button")["kills"])
    assert list(edge.state.glob("runtime.json.corrupt-*"))
    assert {unit for unit in UNITS if ask(edge, unit)[0]} == {u for u, was in before.items() if was[0] == "control"}
    assert all("runtime.json" in line for line in errors(edge)) and max(causes(edge).values()) == 1


def test_a_start_with_a_damaged_runtime_state_waits_for_the_operator(edges):
    edge = edges(CONF, BUTTON, workers=2)
    before = answers(edge)
    edge.ctl("kill", "button/green", "--reason", "it breaks", check=True)
    edge.stop()
    path = edge.state / "runtime.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    edge.start()
    assert all(ask(edge, unit)[0] == "" for unit in UNITS)  # nobody is shown what may have been killed
    assert edge.wait_log(r"\[error\].*runtime\.json: refused: .*; kills and allocations are unknown and nothing is "
                         "written over it: restore it from a copy, or move it away to begin anew")
    assert path.read_bytes() == whole[:-20]
    path.write_bytes(whole)
    left = {unit: was for unit, was in before.items() if was[0] == "control"}
    edge.wait(lambda: {unit: told for unit, told in answers(edge).items() if told[0]} == left)


def test_damaged_counters_are_kept_aside_and_counting_goes_on(edges):
    edge = edges(CONF, BUTTON, workers=2)
    answers(edge)
    path = edge.wait(lambda: next(iter(edge.state.glob("counters/*.json")), None))
    edge.wait(lambda: sum(exposures(edge).values()) == len(UNITS))
    path.write_bytes(path.read_bytes()[:40])
    for unit in range(100, 120):
        ask(edge, str(unit))
    edge.stop()
    assert edge.lines(r"\[error\].*counters/\S+\.json: refused: .*; kept as \S+\.corrupt-1")
    assert sum(exposures(edge).values()) == len(UNITS) + 20


def test_a_restart_goes_on_where_it_ended(edges):
    """Counts exact, the same epoch and table, cookies valid."""
    edge = edges(CONF, document(experiment("button"), experiment("account-test", ("a", "b"), unit="account")), workers=2)
    visitors = [Browser(edge.port) for _ in range(12)]
    before = [visitor.go("/").text.split("|")[:2] for visitor in visitors]
    cookies = [dict(visitor.cookies) for visitor in visitors]
    keys = (edge.state / "keys").read_bytes()
    for end in ("stop", "stop", "kill"):
        if end == "stop":
            edge.stop()
        else:
            edge.wait(lambda: sum(exposures(edge).values()) == len(visitors))
            kill_everything(edge)
        edge.start()
        runtime = edge.runtime("button")
        told = [visitor.go("/").text.split("|")[:3] for visitor in visitors]
        assert [one[:2] for one in told] == before and {one[2] for one in told} == {"sticky"}
        assert [dict(visitor.cookies) for visitor in visitors] == cookies
        assert edge.runtime("button") == runtime and len(runtime["epochs"]) == 1
        assert (edge.state / "keys").read_bytes() == keys
        assert edge.metrics()["nginx_experiment_cookies_refused_total"] == 0
    edge.stop()
    assert sum(exposures(edge).values()) == len(visitors)  # once each, over all lives of the zone


def test_two_nginx_on_one_directory_agree(edges):
    one = edges(CONF, BUTTON, workers=2)
    two = edges(CONF, None, zone=ZONE % one.state, workers=2)
    before = answers(one)
    assert answers(two) == before
    edge = one
    edge.wait(lambda: edge.runtime("button")["epochs"])
    for unit in range(100, 110):
        ask(two, str(unit))
    assert len(one.runtime("button")["epochs"]) == 1
    heavier = [{"key": "control", "weight": 1}, {"key": "green", "weight": 3}]
    edge.define(document(experiment("button", heavier, unit="account")))
    edge.wait(lambda: ask(one, "1")[1] != before["1"][1] and answers(one) == answers(two))
    two.kill_file.write_text("button/green\n")
    edge.wait(lambda: "" in {variant for variant, _ in answers(one).values()} and answers(one) == answers(two))
    edge.ctl("resume", "button/green", "--reason", "x")
    two.kill_file.unlink()
    edge.ctl("resume", "button/green", "--reason", "mended", check=True)
    edge.wait(lambda: "" not in {variant for variant, _ in answers(one).values()} and answers(one) == answers(two))
    counted = [sum(v for k, v in one_of.metrics().items() if k.startswith("nginx_experiment_exposures_total{"))
               for one_of in (one, two)]
    one.stop()
    two.stop()
    assert sum(exposures(one).values()) == sum(counted) > 2 * len(UNITS)
