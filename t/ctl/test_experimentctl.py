"""experimentctl as people and scripts see it: output, exit codes, what it leaves in the state directory."""

import json
import os
import re
import shutil
import subprocess
import threading

import pytest

from lib.tool import (
    BINARY, DOCUMENT, NOTHING, OK, REFUSED, UNREACHABLE, USAGE, VERBS, audit, change_runtime, run, seal,
    unseal,
)


def test_help_documents_verbs_and_exit_codes():
    result = run("--help")
    assert result.returncode == OK
    for word in (*VERBS, "Exit codes:", "4  the store or the file", "5  another version"):
        assert word in result.stdout
    for verb in VERBS:
        told = run(verb, "--help").stdout
        assert "--json" in told and "Exit codes:" in told
    assert "--reason" in run("kill", "--help").stdout


@pytest.mark.parametrize("verb", VERBS)
def test_no_argument_is_named_like_an_option(verb):
    """Newer releases of CLI11 refuse it, for every verb at once."""
    told = run(verb, "--help").stdout
    positional = set(re.findall(r"[a-z]+", told.split("\n")[1].split("[OPTIONS]")[1]))
    options = set(re.findall(r"--([a-z-]+)", told))
    assert "json" in options and not positional & options


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["publish"],
        ["publish", "a.json"],
        ["publish", "a.json", "--state", ".", "--expect", "x"],
        ["check"],
        ["start", "--state", "."],
        ["conclude", "a", "--state", ".", "--winner", "b"],
        ["conclude", "a", "--state", ".", "--reason", "x"],
        ["conclude", "a", "--state", ".", "--reason", "x", "--winner", "b", "--holdback", "some"],
        ["reset", "a", "--state", "."],
        ["audit", "--state", ".", "--limit", "0"],
        ["history", "0", "--state", "."],
        ["doctor"],
        ["kill", "a", "--state", "."],
        ["kill", "a", "--reason", "x"],
        ["kill", "--reason", "x", "--state", "."],
        ["kill", "a", "--all", "--reason", "x", "--state", "."],
        ["kill", "A b", "--reason", "x", "--state", "."],
        ["kill", "a/", "--reason", "x", "--state", "."],
        ["kill", "a", "--reason", "", "--state", "."],
        ["kill", "a", "--reason", "x\x1b[2J", "--state", "."],
        ["kill", "a", "--reason", "x" * 501, "--state", "."],
    ],
)
def test_usage_errors(arguments, tmp_path):
    result = subprocess.run([BINARY, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == USAGE
    assert result.stderr and not list(tmp_path.iterdir())


def test_check(state, tmp_path):
    good = state / "definitions.json"
    result = run("check", good)
    assert (result.returncode, result.stderr) == (OK, "")
    assert "good, 2 experiments" in result.stdout
    assert run("check", "-", stdin=good.read_text()).returncode == OK
    assert json.loads(run("check", good, "--json").stdout) == {"ok": True, "experiments": 2, "warnings": []}

    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({**DOCUMENT, "holdout": 2}))
    result = run("check", bad)
    assert (result.returncode, result.stdout) == (REFUSED, "")
    assert f"{bad} refused at /holdout: 2, expected" in result.stderr
    machine = json.loads(run("check", bad, "--json").stdout)
    assert machine["ok"] is False and "/holdout" in machine["error"]

    odd = tmp_path / "odd.json"
    odd.write_text(json.dumps(DOCUMENT).replace('"goals"', '"gaols"'))
    result = run("check", odd, "--json")
    assert result.returncode == OK
    assert "gaols" in result.stderr and "gaols" in json.loads(result.stdout)["warnings"][0]

    missing = run("check", tmp_path / "missing.json")
    assert missing.returncode == UNREACHABLE and "No such file" in missing.stderr


def test_kill_is_recorded_and_resume_lifts_it(state):
    result = run("kill", "checkout/green", "--reason", "slow pages", "--state", state)
    assert (result.returncode, result.stdout, result.stderr) == (OK, "checkout/green: killed\n", "")
    runtime = unseal(state / "runtime.json")
    (kill,) = runtime["experiments"]["checkout"]["kills"]
    assert (kill["variant"], kill["reason"]) == ("green", "slow pages")
    assert kill["by"].startswith("experimentctl (user ") and kill["at_s"] > 1_700_000_000

    again = run("kill", "checkout/green", "--reason", "other", "--state", state, "--json")
    assert again.returncode == OK
    assert json.loads(again.stdout)["changed"] is False and "slow pages" in again.stdout
    assert unseal(state / "runtime.json") == runtime

    assert run("kill", "checkout", "--reason", "all of it", "--state", state).returncode == OK
    result = run("resume", "checkout", "--reason", "fixed", "--state", state)
    assert result.returncode == OK and "all of it" in result.stdout
    assert "checkout/green is still killed" in result.stderr
    assert run("resume", "checkout/green", "--reason", "fixed", "--state", state).returncode == OK
    kills = unseal(state / "runtime.json")["experiments"]["checkout"]["kills"]
    assert [kill["variant"] for kill in kills] == ["green", ""] and kills[0]["id"] != kills[1]["id"]
    for kill in kills:
        assert kill["lifted"]["reason"] == "fixed" and kill["lifted"]["by"] == kill["by"]
        assert kill["lifted"]["at_s"] >= kill["at_s"]
    status = json.loads(run("status", "checkout", "--state", state, "--json").stdout)
    assert status["experiments"][0]["state"] == "running" and status["experiments"][0]["kills"] == []

    assert run("kill", "checkout", "--reason", "again", "--state", state).returncode == OK
    kills = unseal(state / "runtime.json")["experiments"]["checkout"]["kills"]
    assert len(kills) == 3 and "lifted" not in kills[2]
    status = json.loads(run("status", "checkout", "--state", state, "--json").stdout)
    assert status["experiments"][0]["state"] == "killed"
    assert [kill["reason"] for kill in status["experiments"][0]["kills"]] == ["again"]

    told = audit(state)
    assert [entry[:3] for entry in told] == [
        ("kill", "checkout/green", "slow pages"),
        ("kill", "checkout", "all of it"),
        ("resume", "checkout", "fixed"),
        ("resume", "checkout/green", "fixed"),
        ("kill", "checkout", "again"),
    ]
    assert "all of it" in told[2][3] and "experimentctl (user " in told[2][3]


def test_kills_from_before_they_had_an_id_are_lifted(state):
    run("kill", "checkout", "--reason", "x", "--state", state)
    change_runtime(state, lambda r: (r.pop("document"), r["experiments"]["checkout"]["kills"][0].pop("id")))
    assert run("resume", "checkout", "--reason", "fixed", "--state", state).returncode == OK
    (kill,) = unseal(state / "runtime.json")["experiments"]["checkout"]["kills"]
    assert kill["lifted"]["reason"] == "fixed"
    assert run("resume", "checkout", "--reason", "fixed", "--state", state).returncode == NOTHING


def test_kill_refuses_an_unknown_variant_with_the_list(state):
    result = run("kill", "checkout/blue", "--reason", "x", "--state", state)
    assert result.returncode == REFUSED
    assert 'no variant "blue", expected one of control, green' in result.stderr
    assert not (state / "runtime.json").exists()


def test_kill_works_before_publication(state):
    result = run("kill", "next-one/green", "--reason", "x", "--state", state)
    assert result.returncode == OK and '"next-one" is not in the document' in result.stderr
    assert run("status", "next-one", "--state", state, "--json").returncode == OK


def test_kill_works_without_or_with_a_bad_document(state):
    (state / "definitions.json").write_text("{")
    result = run("kill", "checkout", "--reason", "x", "--state", state)
    assert result.returncode == OK and "definitions 1 refused" in result.stderr
    (state / "definitions.json").unlink()
    result = run("kill", "flag", "--reason", "x", "--state", state)
    assert result.returncode == OK and "definitions.json: No such file" in result.stderr


def test_kill_all_and_resume_all(state):
    assert run("kill", "--all", "--reason", "incident 7", "--state", state).returncode == OK
    status = json.loads(run("status", "--state", state, "--json").stdout)
    assert {e["state"] for e in status["experiments"]} == {"killed"}
    assert status["kill_all"][0]["reason"] == "incident 7"
    result = run("resume", "checkout", "--reason", "x", "--state", state)
    assert result.returncode == NOTHING
    assert run("resume", "--all", "--reason", "over", "--state", state).returncode == OK
    assert run("resume", "--all", "--reason", "over", "--state", state).returncode == NOTHING
    assert [entry[:3] for entry in audit(state)] == [("kill", "*", "incident 7"), ("resume", "*", "over")]


def test_resume_needs_a_reason_and_something_to_lift(state):
    assert run("resume", "checkout", "--state", state).returncode == USAGE
    assert run("resume", "checkout", "--reason", "x", "--state", state).returncode == NOTHING
    run("kill", "checkout/green", "--reason", "x", "--state", state)
    result = run("resume", "checkout", "--reason", "x", "--state", state)
    assert result.returncode == NOTHING and "killed is checkout/green" in result.stderr


@pytest.mark.parametrize(
    "line, target, refused",
    [
        ("checkout", "checkout", True),
        ("*", "checkout", True),
        ("checkout/green", "checkout/green", True),
        ("checkout", "checkout/green", True),
        ("# checkout", "checkout", False),
        ("checkout/green", "checkout", False),
        ("flag", "checkout", False),
    ],
)
def test_resume_refuses_while_the_kill_files_line_stands(state, tmp_path, line, target, refused):
    kill_file = tmp_path / "experiment.kill"
    kill_file.write_text(f"# incident\n{line}\n")
    run("kill", target, "--reason", "x", "--state", state)
    change_runtime(
        state, lambda r: r["experiments"]["checkout"]["kills"][0].update(by=f"kill file {kill_file}")
    )
    result = run("resume", target, "--reason", "x", "--state", state)
    assert result.returncode == (REFUSED if refused else OK)
    if refused:
        assert f"{kill_file}: line 2 still kills {target}" in result.stderr
        kill_file.unlink()
        assert run("resume", target, "--reason", "x", "--state", state).returncode == OK


def test_status_adds_up_every_instance(state):
    run("kill", "checkout/green", "--reason", "x", "--state", state)
    epochs = [
        {"id": (1 << 20) + 3, "started_ms": 1, "ended_ms": 2, "sealed": False, "quotas": [10000], "goals": 1},
        {"id": 2 << 20, "started_ms": 2, "ended_ms": 0, "sealed": False, "quotas": [2500, 7500], "goals": 2},
    ]
    goals = [
        {"key": "purchase", "kind": "conversion", "per": "first", "scale": 2, "max": 0},
        {"key": "revenue", "kind": "value", "per": "first", "scale": 2, "max": 50000},
    ]
    change_runtime(
        state,
        lambda r: r["experiments"]["checkout"].update(
            generation=2, arms=["control", "green"], goals=goals, epochs=epochs, runs="0*2500,1*7500"
        ),
    )
    counters = state / "counters"
    counters.mkdir()
    # Rows: baseline, control, green. Columns: n, purchase, and in the second epoch c, S, Q of revenue.
    vectors = {
        "A" * 22: {
            "1": {"9": "99,99"},
            "2": {str((1 << 20) + 3): "1,0,100,7", str(2 << 20): "0,0,0,0,0,50,5,4,1999"},
        },
        "B" * 22: {"2": {str(2 << 20): "0,0,0,0,0,50,4,1,1,0,200,40,2,100,9"}},
    }
    for instance, by_generation in vectors.items():
        sealed = seal({"instance": instance, "counters": {"checkout": by_generation}})
        (counters / f"{instance}.json").write_text(sealed)
    result = run("status", "checkout", "--state", state, "--json")
    assert (result.returncode, result.stderr) == (OK, "")
    (experiment,) = json.loads(result.stdout)["experiments"]
    assert experiment["state"] == "running" and experiment["generation"] == 2
    assert experiment["epoch"] == 2 << 20 and experiment["open_epochs"] == 2
    control, green = experiment["variants"]
    assert (control["share"], green["share"]) == (0.25, 0.75)
    assert (control["killed"], green["killed"]) == (False, True)
    assert (control["exposures"], green["exposures"]) == (200, 200)
    assert control["goals"]["purchase"] == {"rewarded": 16, "rate": 0.08}
    assert control["goals"]["revenue"] == {"rewarded": 5, "rate": 0.025, "sum": 20.0, "mean": 0.1}
    assert green["goals"]["revenue"]["sum"] == 1.0
    assert experiment["baseline"]["exposures"] == 1
    text = run("status", "--state", state).stdout
    assert "checkout: running" in text and "16 (8.00 %)" in text and "flag: draft" in text


def test_status_of_an_unknown_experiment(state):
    result = run("status", "nope", "--state", state)
    assert result.returncode == NOTHING and 'no experiment "nope"' in result.stderr


ON_STATE = [
    line.split()
    for line in (
        "status",
        "status --watch",
        "list",
        "kill a --reason x",
        "resume a --reason x",
        "start a",
        "freeze a",
        "stop a",
        "archive a",
        "conclude a --winner b --reason x",
        "reset a --reason x",
        "audit",
        "history",
        "history 1",
        "doctor",
    )
]


@pytest.mark.parametrize("verb", ON_STATE, ids=" ".join)
def test_a_missing_state_directory_is_not_made(tmp_path, verb):
    result = run(*verb, "--state", tmp_path / "typo")
    assert result.returncode == UNREACHABLE
    assert "typo: No such file or directory; expected a state directory" in result.stderr
    assert not list(tmp_path.iterdir())
    result = run(*verb, "--state", tmp_path / "typo", "--json")
    assert json.loads(result.stdout)["ok"] is False
    (tmp_path / "typo").write_text("")
    result = run(*verb, "--state", tmp_path / "typo")
    assert result.returncode == UNREACHABLE and "typo: no directory" in result.stderr


def test_a_damaged_runtime_state_is_refused_and_left_alone(state):
    run("kill", "checkout", "--reason", "x", "--state", state)
    damaged = (state / "runtime.json").read_text().replace("checkout", "checkin_")
    (state / "runtime.json").write_text(damaged)
    for verb in (
        ["status"],
        ["kill", "flag", "--reason", "x"],
        ["resume", "checkout", "--reason", "x"],
        ["list"],
        ["stop", "checkout"],
        ["reset", "checkout", "--reason", "x"],
        ["publish", state / "definitions.json"],
    ):
        result = run(*verb, "--state", state)
        assert result.returncode == UNREACHABLE
        assert "runtime.json: refused: damaged or edited" in result.stderr
    assert (state / "runtime.json").read_text() == damaged


def test_kills_at_the_same_time_are_all_recorded(state):
    results = []

    def kill(i):
        results.append(run("kill", f"x{i}", "--reason", "x", "--state", state))

    threads = [threading.Thread(target=kill, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.returncode for r in results] == [OK] * 8
    assert sorted(unseal(state / "runtime.json")["experiments"]) == [f"x{i}" for i in range(8)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_writes_belongs_to_the_directorys_owner(state):
    shutil.chown(state, 65534, 65534)
    run("kill", "checkout", "--reason", "x", "--state", state)
    run("stop", "checkout", "--state", state)
    for name in ("runtime.json", "lock", "store.json", "definitions.json", "audit.jsonl", "history/2.json"):
        assert (state / name).stat().st_uid == 65534
        assert (state / name).stat().st_mode & 0o777 == 0o640
