"""start, freeze, stop, conclude, archive, reset: what an experiment is wanted to be."""

import json
import threading

import pytest

from lib.tool import (
    NOTHING, OK, REFUSED, UNREACHABLE, audit, document, experiment, has_run, run, runtime,
    unseal,
)


def desired(state, key):
    for one in json.loads((state / "definitions.json").read_text())["experiments"]:
        if one["key"] == key:
            return one


@pytest.mark.parametrize("verb, arguments, expected", [
    ("start", [], "running"), ("freeze", [], "frozen"), ("stop", [], "stopped"), ("archive", [], "archived")])
def test_a_verb_changes_what_is_desired(state, verb, arguments, expected):
    before = json.loads((state / "definitions.json").read_text())
    key = "flag" if verb == "start" else "checkout"
    result = run(verb, key, *arguments, "--state", state)
    assert (result.returncode, result.stderr) == (OK, "")
    assert result.stdout == f"{key}: {expected} (definitions 1 -> 2)\n"
    after = json.loads((state / "definitions.json").read_text())
    assert desired(state, key)["desired"] == expected
    for one in (*before["experiments"], *after["experiments"]):
        one.pop("desired", None)
    assert before == after
    assert audit(state) == [(verb, key, "", "definitions 1 -> 2")]

    again = run(verb, key, "--reason", "once more", "--state", state, "--json")
    assert again.returncode == OK
    assert json.loads(again.stdout) == {
        "ok": True,
        "key": key,
        "desired": expected,
        "changed": False,
        "version": 2,
        "stays_killed": [],
        "warnings": [],
    }
    assert len(audit(state)) == 1


def test_the_rest_of_the_text_stays(state):
    text = ('{\n    "$comment": "ours", "schema": 1,\n    "experiments": [\n'
            '        {"variants": [{"weight": 0.1, "key": "b"}, {"key": "a", "note": "\\u00fc ü"}],'
            ' "zeta": [1, 2.50, 1e3], "key": "hero", "owner": "ana"},\n'
            '        {"key": "x", "variants": [{"key": "on"}]}\n    ]\n}\n')
    (state / "definitions.json").write_text(text)
    assert run("start", "hero", "--state", state).returncode == OK
    written = (state / "definitions.json").read_text()
    assert written.startswith('{\n    "$comment": "ours",\n    "schema": 1,\n')
    before, after = (json.loads(t, object_pairs_hook=list) for t in (text, written))
    hero = dict(after)["experiments"][0]
    assert hero.pop() == ("desired", "running")
    assert before == after and "ü" in written

    compact = json.dumps(json.loads(text), separators=(",", ":"))
    (state / "definitions.json").write_text(compact)
    assert run("start", "x", "--state", state).returncode == OK
    assert "\n" not in (state / "definitions.json").read_text()


def test_conclude_needs_a_winner_of_the_experiment(state):
    result = run("conclude", "checkout", "--winner", "blue", "--reason", "x", "--state", state)
    assert result.returncode == REFUSED
    refusal = '"checkout" has no variant "blue", expected one of control, green; nothing was changed'
    assert refusal in result.stderr
    winner = ("--winner", "green", "--reason", "it won")
    result = run("conclude", "checkout", *winner, "--holdback", 0.05, "--state", state)
    assert result.returncode == OK and "checkout: concluded, everyone gets green" in result.stdout
    told = desired(state, "checkout")
    assert (told["desired"], told["winner"], told["holdback"]) == ("concluded", "green", 0.05)
    assert audit(state) == [("conclude", "checkout", "it won", "definitions 1 -> 2")]
    result = run("conclude", "checkout", "--winner", "control", "--reason", "no", "--state", state)
    assert result.returncode == OK
    told = desired(state, "checkout")
    assert told["winner"] == "control" and "holdback" not in told
    result = run("conclude", "checkout", *winner, "--holdback", 7, "--state", state)
    assert result.returncode == REFUSED and "/experiments/0/holdback: 7" in result.stderr
    assert desired(state, "checkout")["winner"] == "control"


@pytest.mark.parametrize("verb", [["start"], ["freeze"], ["conclude", "--winner", "green", "--reason", "x"]])
def test_what_is_killed_stays_so(state, verb):
    run("kill", "checkout", "--reason", "it breaks", "--state", state)
    run("kill", "flag", "--reason", "not of this one", "--state", state)
    result = run(verb[0], "checkout", *verb[1:], "--state", state)
    assert result.returncode == NOTHING
    assert 'it breaks; only "experimentctl resume checkout" lifts it' in result.stdout
    assert "flag" not in result.stdout
    assert run("stop", "checkout", "--state", state).returncode == OK


def test_what_cannot_be_changed(state, empty):
    result = run("start", "nope", "--state", state)
    assert result.returncode == NOTHING
    assert 'no experiment "nope" in definitions 1; nothing was changed' in result.stderr
    assert run("start", "nope", "--state", empty).returncode == NOTHING
    sliced = [experiment(key, "a", "b", layer="l", slice=[0, 0.6], desired=desired)
              for key, desired in (("one", "running"), ("two", "draft"))]
    (state / "definitions.json").write_text(document(*sliced, layers=[{"key": "l"}]))
    result = run("start", "two", "--state", state)
    assert result.returncode == REFUSED and "refused at /experiments/1/slice" in result.stderr
    assert "nothing was changed" in result.stderr and desired(state, "two")["desired"] == "draft"
    (state / "definitions.json").write_text("{")
    result = run("start", "two", "--state", state)
    assert result.returncode == REFUSED and "definitions 3 are refused by nodes at line 1" in result.stderr
    assert (state / "definitions.json").read_text() == "{" and audit(state) == []


def test_changes_at_the_same_time_are_all_made(state):
    keys = [f"x{i}" for i in range(6)]
    drafts = [experiment(key, "a", "b", desired="draft") for key in keys]
    (state / "definitions.json").write_text(document(*drafts))
    results = []
    threads = [threading.Thread(target=lambda key=key: results.append(run("start", key, "--state", state)))
               for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.returncode for result in results] == [OK] * 6
    assert {desired(state, key)["desired"] for key in keys} == {"running"}
    assert unseal(state / "store.json")["version"] == 7 and len(audit(state)) == 6


def test_reset_begins_another_generation_and_lifts_nothing(state):
    assert run("reset", "checkout", "--reason", "x", "--state", state).returncode == NOTHING
    run("kill", "checkout/green", "--reason", "slow", "--state", state)
    result = run("reset", "checkout", "--reason", "x", "--state", state)
    assert result.returncode == NOTHING and '"checkout" has not run in' in result.stderr
    has_run(state, "checkout", {"control": 5000, "green": 5000}, generation=3)
    result = run("reset", "checkout", "--reason", "the page is another", "--state", state)
    assert (result.returncode, result.stderr) == (OK, "")
    assert result.stdout == "checkout: generation 3 -> 4; counts begin anew, and visitors are drawn again\n"
    now = runtime(state)["experiments"]["checkout"]
    assert (now["generation"], now["revision"], now["epochs"], now["arms"]) == (4, 2, [], [])
    assert len(now["kills"]) == 1 and "lifted" not in now["kills"][0]
    assert audit(state)[-1] == ("reset", "checkout", "the page is another", "generation 3 -> 4")


def test_an_archived_key_is_free_for_a_new_generation_only(state):
    run("kill", "checkout", "--reason", "x", "--state", state)
    run("resume", "checkout", "--reason", "x", "--state", state)
    has_run(state, "checkout", {"control": 5000, "green": 5000})
    assert run("archive", "checkout", "--state", state).returncode == OK
    for verb in ("start", "freeze"):
        result = run(verb, "checkout", "--state", state)
        assert result.returncode == REFUSED
        assert "archived, its key is free for a new generation only" in result.stderr
    assert run("reset", "checkout", "--reason", "again", "--state", state).returncode == OK
    assert run("start", "checkout", "--state", state).returncode == OK


def test_a_full_disk_or_a_held_lock_is_said(state):
    (state / "history").write_text("a file in the folder's place")
    result = run("stop", "checkout", "--state", state)
    assert result.returncode == UNREACHABLE and "nothing was published" in result.stderr
    assert desired(state, "checkout")["desired"] == "running" and audit(state) == []


def test_an_act_without_record_is_done_and_warned_of(state):
    (state / "audit.jsonl").mkdir()
    result = run("kill", "checkout", "--reason", "x", "--state", state)
    assert result.returncode == OK
    assert "audit.jsonl: Is a directory; done, but not in the audit log" in result.stderr
    assert len(runtime(state)["experiments"]["checkout"]["kills"]) == 1
