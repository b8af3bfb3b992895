"""list, status over edges, audit, keygen, doctor: what tools see of a store and its edges."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from lib.tool import (
    BINARY, DOCUMENT, NOTHING, OK, REFUSED, UNREACHABLE, audit, change_runtime, has_run, reports, run,
)


def test_list(state):
    run("kill", "checkout/green", "--reason", "x", "--state", state)
    has_run(state, "checkout", {"control": 2500, "green": 7500})
    result = run("list", "--state", state)
    assert (result.returncode, result.stderr) == (OK, "")
    assert result.stdout == "checkout  running  control 25.00 %, green killed\nflag      draft    on\n"
    told = json.loads(run("list", "--state", state, "--json").stdout)
    assert [one["key"] for one in told["experiments"]] == ["checkout", "flag"]
    assert told["document_version"] == 1
    assert told["experiments"][0]["variants"][1] == {"key": "green", "share": 0.75, "killed": True}


def test_status_says_where_it_is_applied(state):
    run("kill", "checkout", "--reason", "x", "--state", state)
    assert "applied" not in run("status", "--state", state).stdout  # no edge has ever reported
    reports(state, "A", host="one", document=1, runtime=1)
    reports(state, "B", host="two", document=0, runtime=1)
    reports(state, "C", host="three", document=1, runtime=0)
    reports(state, "D", host="four", document=1, runtime=1, age=700)
    result = run("status", "--state", state)
    assert result.returncode == OK
    assert ("applied on 1 of 3 edges; lagging: two (BBBBBBBB): document 0, runtime 1, "
            "three (CCCCCCCC): document 1, runtime 0\n") in result.stdout
    assert "silent, perhaps ended: four (DDDDDDDD) for 11 min\n" in result.stdout
    told = json.loads(run("status", "--state", state, "--json").stdout)["applied"]
    assert (told["edges"], told["current"], len(told["lagging"]), len(told["silent"])) == (3, 1, 2, 1)
    reports(state, "D", host="four", age=4000)
    (state / "edges" / ("E" * 22 + ".json")).write_text("rubbish")
    result = run("status", "--state", state)
    assert "silent" not in result.stdout and "is no JSON object; left out" in result.stderr


def test_status_follows_until_it_is_interrupted(state):
    command = [BINARY, "status", "checkout", "--watch", "--state", state]
    # Where tests run in the background, interrupts are ignored, and that is inherited.
    tool = subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        first = [tool.stdout.readline() for _ in range(3)]
        assert first[1] == "checkout: running\n"
        run("kill", "checkout", "--reason", "it breaks", "--state", state)
        end = time.monotonic() + 20
        while "killed: it breaks" not in (line := tool.stdout.readline()):
            assert time.monotonic() < end, line
    finally:
        tool.send_signal(signal.SIGINT)
        assert tool.wait(10) == -signal.SIGINT
        tool.stdout.close()
    assert run("status", "nope", "--watch", "--state", state).returncode == NOTHING


def test_audit_is_newest_first(state):
    assert run("audit", "--state", state).stdout == ""
    for i in range(60):
        run("kill", f"x{i}", "--reason", f"reason {i}", "--state", state)
    lines = run("audit", "--state", state).stdout.splitlines()
    assert len(lines) == 50
    assert "  kill x59  by experimentctl (user " in lines[0] and lines[0].endswith(": reason 59")
    assert len(run("audit", "--limit", 3, "--state", state).stdout.splitlines()) == 3
    entries = json.loads(run("audit", "--limit", 100, "--state", state, "--json").stdout)["entries"]
    assert len(entries) == 60 and entries[59]["target"] == "x0" and entries[0]["reason"] == "reason 59"
    with open(state / "audit.jsonl", "a") as log:
        log.write("rubbish\n")
    result = run("audit", "--state", state)
    assert result.returncode == OK and "1 lines are no entries; left out" in result.stderr
    shutil.rmtree(state / "audit.jsonl", ignore_errors=True)
    (state / "audit.jsonl").unlink()
    (state / "audit.jsonl").mkdir()
    assert run("audit", "--state", state).returncode == UNREACHABLE


def test_keygen(tmp_path):
    key = run("keygen")
    assert key.returncode == OK and len(key.stdout) == 65 and int(key.stdout, 16)
    assert len(json.loads(run("keygen", "--json").stdout)["key"]) == 64
    assert run("keygen").stdout != key.stdout

    ring = tmp_path / "experiment.keys"
    os.umask(0o022)
    assert run("keygen", ring).stdout == f"{ring}: 1 key\n"
    assert ring.stat().st_mode & 0o777 == 0o600
    first = ring.read_text()
    assert json.loads(run("keygen", ring, "--json").stdout)["keys"] == 2
    assert ring.read_text().startswith(first)
    assert len(ring.read_text().splitlines()) == len(first.splitlines()) + 1
    ring.write_text(key.stdout.strip())  # without an end of line
    ring.chmod(0o644)
    result = run("keygen", ring)
    assert result.returncode == OK and "expected mode 0600" in result.stderr
    assert ring.read_text().startswith(key.stdout)
    ring.write_text("no key\n")
    result = run("keygen", ring)
    assert result.returncode == REFUSED and "nothing was appended" in result.stderr
    assert ring.read_text() == "no key\n"
    assert run("keygen", tmp_path / "absent" / "keys").returncode == UNREACHABLE
    ring.unlink()
    for _ in range(8):
        assert run("keygen", ring).returncode == OK
    assert run("keygen", ring).returncode == REFUSED, "a ring has at most eight"


ALL = [{"patterns": ["all"], "place": "server"}]
EDGE = {"host": "one", "document": 1, "keys": "0123abcd", "ring": ["aaaa0001"]}


def another_edge(**differs):
    return lambda state: reports(state, "B", **{**EDGE, **differs})


def healthy(state):
    """A directory as nginx has it: doctor has nothing to say."""
    run("keygen", state / "keys")
    reports(state, "A", **EDGE, at_s=int(time.time()), placements=ALL)


def findings(state, kind="findings"):
    result = run("doctor", "--state", state, "--json")
    told = json.loads(result.stdout)
    assert result.returncode == (REFUSED if told["findings"] else OK)
    for begin, each in (("", "findings"), ("note: ", "notes")):
        for finding in told[each]:
            assert finding["what"] and finding["fix"]
            assert begin + finding["what"] + "\n  " + finding["fix"] + "\n" in run("doctor", "--state", state).stdout
    return told[kind]


def test_a_healthy_directory_has_no_findings(state):
    healthy(state)
    assert findings(state) == []
    assert run("doctor", "--state", state).stdout == f"{state}: nothing to change\n"
    assert audit(state) == []


def make_unreadable_runtime(state):
    run("kill", "checkout", "--reason", "x", "--state", state)
    (state / "runtime.json").write_text("rubbish")


def kill_by_file(state):
    kill_file = state.parent / "experiment.kill"
    kill_file.write_text("# since ten\ncheckout\nOH\n")
    run("kill", "checkout", "--reason", "line 2", "--state", state)
    by = f"kill file {kill_file}"
    change_runtime(state, lambda r: r["experiments"]["checkout"]["kills"][0].update(by=by))
    reports(state, "A", **EDGE, runtime=2, placements=ALL)


@pytest.mark.parametrize("harm, expected", [
    (lambda s: (s / "definitions.json").unlink(), "definitions.json: No such file or directory"),
    (lambda s: (s / "definitions.json").write_text("{"), "definitions 1 refused at line 1"),
    (lambda s: (s / "definitions.json").write_text(json.dumps(DOCUMENT).replace('"goals"', '"gaols"')),
     'did you mean "goals"?'),
    (make_unreadable_runtime, "the runtime state cannot be read: kills and allocations are unknown"),
    (lambda s: (s / "keys").unlink() or shutil.rmtree(s / "edges"), "keys: missing, and no edge says"),
    (lambda s: (s / "keys").write_text("rubbish"), "keys: "),
    (lambda s: (s / "keys").chmod(0o644), "others than its owner may use the keys"),
    (lambda s: s.chmod(0o777), "everybody on this machine may write there"),
    (lambda s: (s / "runtime.json.corrupt-1").write_text(""), "a damaged file that was set aside"),
    (another_edge(keys="ffffffff", ring=[]), "key rings differ, so that edges may refuse each other's cookies: "
                                             "0123abcd on one (AAAAAAAA); ffffffff on one (BBBBBBBB)"),
    (another_edge(keys="ffffffff", ring=["bbbb0002"]),
     "cookies that one (AAAAAAAA) signs by key aaaa0001 are refused on one (BBBBBBBB), where that key is missing"),
    (another_edge(keys="ffffffff", ring=["bbbb0002", "aaaa0001"]),
     "cookies that one (BBBBBBBB) signs by key bbbb0002 are refused on one (AAAAAAAA), where that key is missing"),
    (another_edge(keys=""), "no key ring on one (BBBBBBBB)"),
    (another_edge(host="two"), "edges of 2 machines (one, two) report into"),
    (another_edge(at_s=int(time.time()) - 9000), "clocks differ: one (AAAAAAAA) is "),
    (another_edge(document=0), "edge one (BBBBBBBB): document 0, runtime 0 is behind"),
    (lambda s: reports(s, "A", **EDGE, placements=[]), 'no edge applies "checkout"'),
    (kill_by_file, "experiment.kill line 2 still kills checkout"),
    (kill_by_file, 'experiment.kill line 3: "OH", expected KEY'),
])
def test_doctor_finds(state, harm, expected):
    healthy(state)
    harm(state)
    told = findings(state)
    assert any(expected in finding["what"] for finding in told), told
    assert len(told) <= 2


@pytest.mark.parametrize("first, second", [
    (["aaaa0001"], ["aaaa0001", "bbbb0002"]),  # the new key is being brought to all
    (["aaaa0001", "bbbb0002"], ["bbbb0002", "aaaa0001"]),  # it begins to sign
    (["bbbb0002"], ["bbbb0002", "aaaa0001"]),  # the old one goes
])
def test_a_rotation_that_is_in_order_is_a_note(state, first, second):
    healthy(state)
    for name, ring in (("A", first), ("B", second)):
        reports(state, name, **{**EDGE, "keys": "+".join(ring), "ring": ring}, placements=ALL)
    assert findings(state) == []
    note, = findings(state, "notes")
    assert note["what"].startswith("rotation of keys under way: ") and "on one (BBBBBBBB)" in note["what"]
    assert run("doctor", "--state", state).stdout.startswith(f"{state}: nothing to change\nnote: ")


def test_the_clocks_of_edges_that_report_at_different_times_agree(state):
    healthy(state)
    reports(state, "B", **EDGE, at_s=int(time.time()) - 170, age=170)
    assert findings(state) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_doctor_finds_what_belongs_to_somebody_else(state):
    healthy(state)
    shutil.chown(state, 65534, 65534)
    for path in state.iterdir():
        shutil.chown(path, 65534, 65534)
    assert findings(state) == []
    shutil.chown(state / "edges", 0, 0)
    (state / "definitions.json").chmod(0o640)
    shutil.chown(state / "definitions.json", 0, 0)
    told = sorted(finding["what"] for finding in findings(state))
    assert told == [f"{state}/definitions.json: the owner of {state} may not read it",
                    f"{state}/edges: belongs to another user than {state}; nodes may fail to use it"]
