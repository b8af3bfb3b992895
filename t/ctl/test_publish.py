"""publish, check against placements, history: which document holds, and what that changes."""

import json
import threading

import pytest

from lib.tool import (
    CONFLICT, DOCUMENT, NOTHING, OK, REFUSED, UNREACHABLE, audit, document, experiment, has_run, reports, run, seal,
    unseal,
)


@pytest.fixture
def publish(empty, tmp_path):
    def publish(text, *arguments):
        path = tmp_path / "new.json"
        path.write_text(text)
        return run("publish", path, "--state", empty, *arguments)

    return publish


def stands(state):
    path = state / "definitions.json"
    return path.read_text() if path.exists() else None


HERO = document(experiment("hero", "control", "green"))


def test_publish_says_what_begins(empty, publish):
    result = publish(HERO)
    assert (result.returncode, result.stderr) == (OK, "")
    assert result.stdout == ("new      hero: running; control 50.00 %, green 50.00 %\n"
                             "definitions 0 -> 1: published\n")
    assert stands(empty) == HERO
    assert audit(empty) == [("publish", "", "", "definitions 0 -> 1")]

    two = document(experiment("hero", "control", ("green", 3)), experiment("late", "a", "b", desired="draft"))
    result = publish(two, "--json", "--reason", "more of it", "--expect", 1)
    assert json.loads(result.stdout) == {
        "ok": True, "published": True, "replaced": 1, "version": 2, "stays_killed": [], "warnings": [],
        "changes": [
            {"key": "hero", "change": "changed", "effects": ["new epoch: weights changed"], "moves": 0.25},
            {"key": "late", "change": "new", "effects": ["draft"], "moves": None},
        ]}
    assert audit(empty)[-1] == ("publish", "", "more of it", "definitions 1 -> 2")
    result = publish(document(experiment("late", "a", "b", desired="draft")))
    assert "removed  hero: it stops, its results stay\n" in result.stdout


NEW_GENERATION = "new generation 2: salt, unit, control or baseline changed, it begins anew"


@pytest.mark.parametrize("change, expected, moves", [
    (lambda e: e.update(traffic=0.5), "traffic 1 -> 0.5", 0),
    (lambda e: e.update(desired="stopped"), "running -> stopped", 0),
    (lambda e: e.update(desired="concluded", winner="green", holdback=0.1),
     "running -> concluded; everyone gets green, but for a holdback of 10.00 %", 0),
    (lambda e: e.update(salt="again"), NEW_GENERATION, 0.5),
    (lambda e: e.update(control="green"), NEW_GENERATION, 0),
    (lambda e: e["variants"].append({"key": "blue"}), "new epoch: weights changed", 1 / 3),
    (lambda e: e["variants"][1].update(payload={"a": 1}),
     "revision 2: variants or payloads changed, its pages are cached anew", 0),
    (lambda e: e.update(targeting={"country": "DE"}), "off, targeting is not in this build", 0),
    (lambda e: e.update(goals=[{"key": "buy"}]), 'goal "buy" is goal 0; new epoch: goals added', 0),
    (lambda e: e.update(render="edge"), "holds from the next request on", 0),
])
def test_what_a_change_does(publish, change, expected, moves):
    publish(HERO)
    changed = json.loads(HERO)
    change(changed["experiments"][0])
    (told,) = json.loads(publish(json.dumps(changed), "--json").stdout)["changes"]
    assert expected in "; ".join(told["effects"])
    assert told["moves"] == pytest.approx(moves, abs=2e-4)


def test_who_moves_is_told_from_the_table_that_holds(empty, publish):
    """An adaptive experiment's shares are not those of the document."""
    allocation = {"policy": "thompson", "goal": "buy", "baseline": 0}
    hero = experiment("hero", "a", "b", goals=[{"key": "buy"}], allocation=allocation)
    publish(document(hero))
    run("kill", "hero", "--reason", "x", "--state", empty)
    run("resume", "hero", "--reason", "x", "--state", empty)
    has_run(empty, "hero", {"a": 1000, "b": 9000}, goals=["buy"])
    heavier = document({**hero, "variants": [{"key": "a", "weight": 9}, {"key": "b"}]})
    (told,) = json.loads(publish(heavier, "--dry-run", "--json").stdout)["changes"]
    assert told["effects"] == ["holds from the next request on"] and told["moves"] == 0
    third = document({**hero, "variants": [{"key": key} for key in "abc"]})
    (told,) = json.loads(publish(third, "--json").stdout)["changes"]
    assert "new epoch: variants with weight changed" in told["effects"]
    assert told["moves"] == pytest.approx(0.5667), "b gives to a and c"


def test_an_identical_document_changes_nothing_and_says_so(empty, publish):
    publish(HERO)
    before = sorted(path.name for path in empty.rglob("*"))
    result = publish(HERO)
    assert result.returncode == OK
    assert result.stdout == "definitions 1 are this very text; nothing was published\n"
    assert sorted(path.name for path in empty.rglob("*")) == before and len(audit(empty)) == 1
    assert json.loads(publish(HERO, "--json").stdout)["published"] is False
    blank = publish(HERO + "\n")
    assert blank.stdout == "no experiment changes\ndefinitions 1 -> 2: published\n"


def test_a_dry_run_publishes_nothing(empty, publish):
    result = publish(HERO, "--dry-run")
    assert result.returncode == OK and "new      hero: running" in result.stdout
    assert "dry run: nothing was published, definitions 0 stand" in result.stdout
    assert stands(empty) is None and audit(empty) == []
    publish(HERO)
    result = publish(HERO.replace("green", "blue"), "--dry-run", "--json")
    assert json.loads(result.stdout)["published"] is False and stands(empty) == HERO


def test_an_invalid_document_is_refused_whole(empty, publish):
    publish(HERO)
    result = publish(document(experiment("hero", "control", ("green", -1))))
    assert (result.returncode, result.stdout) == (REFUSED, "")
    assert ("refused at /experiments/0/variants/1/weight: -1, expected" in result.stderr
            and "; version 1 stays in use" in result.stderr)
    assert stands(empty) == HERO
    result = publish("{", "--json")
    assert result.returncode == REFUSED and "line 1" in json.loads(result.stdout)["error"]
    assert run("publish", empty / "missing.json", "--state", empty).returncode == UNREACHABLE
    assert run("publish", "-", "--state", empty, stdin=HERO).returncode == OK


@pytest.mark.parametrize("target, concerned", [
    (["hero"], True), (["hero/green"], True), (["--all"], True), (["hero/gone"], False), (["other"], False)])
def test_what_stays_killed_is_told_by_the_exit_code(empty, publish, target, concerned):
    other = experiment("other", "a", "b", desired="stopped")
    publish(document(experiment("hero", "control", "gone"), other))
    run("kill", *target, "--reason", "it breaks", "--state", empty)
    result = publish(document(experiment("hero", "control", "green"), other))
    if target == ["hero/green"]:  # it was not known before
        run("kill", *target, "--reason", "it breaks", "--state", empty)
        result = publish(document(experiment("hero", "control", "green")))
    assert result.returncode == (NOTHING if concerned else OK)
    assert "published" in result.stdout and len(audit(empty)) >= 3
    name = "everything" if target == ["--all"] else target[0]
    assert (f"{name} stays killed, by experimentctl (user " in result.stdout) == concerned
    if not concerned:
        return
    assert f'it breaks; only "experimentctl resume {target[0]}" lifts it' in result.stdout
    again = publish(stands(empty), "--json")
    assert again.returncode == NOTHING
    told = json.loads(again.stdout)
    assert told["ok"] is False and told["stays_killed"][0]["target"] == name
    assert run("resume", *target, "--reason", "mended", "--state", empty).returncode == OK
    assert publish(stands(empty)).returncode == OK


def test_publishing_is_compare_and_set(empty, publish):
    publish(HERO)
    publish(HERO.replace("green", "blue"))
    result = publish(HERO.replace("green", "red"), "--expect", 1)
    assert result.returncode == CONFLICT
    assert "definitions 2 stand, expected version 1; nothing was published" in result.stderr
    assert "blue" in stands(empty)
    # An edit that nobody has numbered.
    (empty / "definitions.json").write_text(HERO.replace("green", "by-hand"))
    assert publish(HERO, "--expect", 2).returncode == CONFLICT
    assert publish(HERO, "--expect", 3).returncode == OK
    result = run("history", "--state", empty)
    assert [line.split("  ")[0] for line in result.stdout.splitlines()] == ["4", "3", "2", "1"]
    assert "  by hand  " in result.stdout.splitlines()[1]
    assert "by-hand" in run("history", 3, "--state", empty).stdout
    assert run("history", 1, "--state", empty).stdout == HERO
    told = json.loads(run("history", 1, "--state", empty, "--json").stdout)
    assert told["text"] == HERO and told["version"] == 1 and told["by"].startswith("experimentctl")
    assert len(json.loads(run("history", "--state", empty, "--json").stdout)["versions"]) == 4
    assert run("history", 9, "--state", empty).returncode == NOTHING


def test_all_who_publish_at_once_are_done(empty, tmp_path):
    results = []

    def publish(i):
        path = tmp_path / f"{i}.json"
        path.write_text(document(experiment(f"x{i}", "a", "b")))
        results.append(run("publish", path, "--state", empty))

    threads = [threading.Thread(target=publish, args=(i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.returncode for result in results] == [OK] * 5
    assert len(json.loads(run("history", "--state", empty, "--json").stdout)["versions"]) == 5
    assert unseal(empty / "store.json")["version"] == 5


def belongs_to_a_fleet(state, store):
    (state / "fleet.json").write_text(seal({"store": store}))


@pytest.mark.parametrize("verb", [["publish", "new.json"], ["publish", "new.json", "--dry-run"], ["start", "flag"],
                                  ["freeze", "checkout"], ["stop", "checkout"], ["archive", "flag"],
                                  ["conclude", "checkout", "--winner", "green", "--reason", "x"]])
def test_the_directory_of_a_fleets_edge_takes_no_documents(state, tmp_path, monkeypatch, verb):
    """No node reads them there; what this edge alone does is still its directory's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.json").write_text(json.dumps({**DOCUMENT, "holdout": 0.1}))
    before = (state / "definitions.json").read_text()
    belongs_to_a_fleet(state, "redis+cluster://a:1,b:2 shop")
    result = run(*verb, "--state", state)
    assert result.returncode == REFUSED and (state / "definitions.json").read_text() == before
    assert (f"{state} belongs to an edge of a fleet, which takes its document from there; nothing was changed: "
            "use --store redis+cluster://a:1,b:2 --namespace shop") in result.stderr
    for allowed in (["kill", "checkout", "--reason", "x"], ["resume", "checkout", "--reason", "x"],
                    ["reset", "checkout", "--reason", "x"], ["list"], ["status"], ["history"],
                    ["check", "new.json"]):
        assert run(*allowed, "--state", state).returncode in (OK, NOTHING), allowed


def test_a_link_is_not_replaced(empty, publish, tmp_path):
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(HERO)
    (empty / "definitions.json").symlink_to(elsewhere)
    result = publish(HERO.replace("green", "blue"))
    assert result.returncode == UNREACHABLE and "a symbolic link, expected a file" in result.stderr
    assert elsewhere.read_text() == HERO


ALL = [{"patterns": ["all"], "place": "server"}]
PLACED = {"placements": [{"patterns": ["hero-*"], "place": "server www, location /"},
                         {"patterns": ["checkout"], "place": "server www, location /pay"}],
          "units": ["visitor"]}


def test_what_no_edge_applies_is_named_before_it_goes_out(empty, publish, tmp_path):
    text = document(experiment("cta-colour", "a", "b"), experiment("hero-image", "a", "b", unit="account"),
                    experiment("chekout", "a", "b"), experiment("old", "a", "b", desired="stopped"))
    path = tmp_path / "check.json"
    path.write_text(text)
    assert run("check", path, "--state", empty).stderr == ""  # no edge has reported: nobody knows
    reports(empty, "A", host="one", **PLACED)
    reports(empty, "B", host="two", age=600, placements=[{"patterns": ["all"], "place": "a former one"}])
    for result in (run("check", path, "--state", empty), publish(text)):
        assert result.returncode == OK
        told = result.stderr.splitlines()
        assert len(told) == 3
        assert 'no edge applies "cta-colour"; nearest pattern is "' in told[0]
        assert 'no edge declares the unit "account" of "hero-image"' in told[1]
        nearest = 'nearest pattern is "checkout" at server www, location /pay'
        assert told[2].endswith(f'no edge applies "chekout"; {nearest}')
    reports(empty, "C", host="three", placements=ALL, units=["account"])
    assert run("check", path, "--state", empty).stderr == ""
    for instance in "AC":
        reports(empty, instance, host="x")
    result = run("check", path, "--state", empty)
    assert 'no edge applies "cta-colour"; no edge has a placement' in result.stderr


def test_the_nearest_pattern_is_named_with_its_place(empty, tmp_path):
    path = tmp_path / "check.json"
    path.write_text(document(experiment("cta-colour", "a", "b")))
    reports(empty, "A", placements=[{"patterns": ["hero-*"], "place": "server www, location /"}])
    told = json.loads(run("check", path, "--state", empty, "--json").stdout)["warnings"]
    nearest = 'nearest pattern is "hero-*" at server www, location /'
    assert told == [f'{path}: no edge applies "cta-colour"; {nearest}']


def test_a_damaged_history_is_a_warning(empty, publish):
    publish(HERO)
    publish(HERO.replace("green", "blue"))
    (empty / "history" / "1.json").write_text("rubbish")
    result = run("history", "--state", empty)
    assert result.returncode == OK and "history/1.json: refused: " in result.stderr
    assert len(result.stdout.splitlines()) == 1


def test_a_runtime_state_is_not_needed(empty, publish):
    """The state that a node is about to make is what the document is compared with."""
    publish(HERO)
    told = publish(document(experiment("hero", ("control", 3), "green"))).stdout
    assert "25.00 % of the units without a cookie move" in told
    assert not (empty / "runtime.json").exists()
