"""Definitions while nginx runs: bad ones change nothing and say why, good ones are in use within a second."""
import json
import pathlib
import re
import time

import pytest
from lib.client import get
from lib.edge import document, experiment

CORPUS = pathlib.Path(__file__).resolve().parent.parent / "definitions"
CONF = """
    server {
        listen 127.0.0.1:{port};
        location / { experiment all; return 200 "$variant_witness|$experiment_assignments|$pid"; }
        location = /metrics { experiment_metrics; }
    }
"""
REFUSED = r"\[error\] .*experiment: definitions (\d+) refused "
# at PATH: VALUE, expected ...; version M stays in use
WHOLE = re.compile(REFUSED + r"(?:at [^:]+: .+, expected .+|at byte .+|.+, expected .+); version (\d+) stays in use$")


def witness(*variants, **fields):
    return experiment("witness", variants or ("control", "green"), unit="account", **fields)


def variant(edge, unit="somebody"):
    return get(edge.port, "/", {"X-Account": unit}).text.split("|")[0]


def on_every_worker(edge, condition, seconds=1.0):
    """Whether, `seconds` from now, condition(variant, assignments) holds of every worker's answers; each is asked."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    seen, wrong = set(), []
    deadline = time.monotonic() + 10
    while len(seen) < edge.workers and time.monotonic() < deadline:
        for _ in range(20):
            text, assigned, pid = get(edge.port, "/", {"X-Account": "somebody"}).text.split("|")
            seen.add(pid)
            if not condition(text, assigned):
                wrong.append((text, assigned, pid))
    assert len(seen) == edge.workers, seen
    return not wrong


def errors(edge):
    return edge.lines(r"\[error\]")


def test_bad_documents_change_nothing(edges):
    """The whole corpus, dealt out to several edges, since each look of a leader sees one document."""
    files = sorted(CORPUS.glob("bad/*.json")) + sorted(CORPUS.glob("bad_beyond_schema/*.json"))
    assert len(files) > 100
    several = [edges(CONF, document(witness()), workers=1) for _ in range(20)]
    before = [variant(edge) for edge in several]
    assert set(before) <= {"control", "green"}
    for start in range(0, len(files), len(several)):
        dealt = list(zip(several, files[start:start + len(several)]))
        said = [len(errors(edge)) for edge, _ in dealt]
        for edge, file in dealt:
            edge.define(file.read_bytes())
        for (edge, file), known in zip(dealt, said):
            edge.wait(lambda: len(errors(edge)) > known)
            fresh = errors(edge)[known:]
            found = WHOLE.search(fresh[0])
            assert len(fresh) == 1 and found, (file.name, fresh)
            assert int(found.group(1)) > int(found.group(2)) == 1, (file.name, fresh)
    assert [variant(edge) for edge in several] == before
    for edge in several:
        edge.define(document(witness("a", "b")))
        assert on_every_worker(edge, lambda text, _: text in ("a", "b"))
        assert edge.metrics()["nginx_experiment_document_version"] > 5


def test_the_lines_read_as_documented(edges):
    edge = edges(CONF, document(witness()), workers=1)
    assert variant(edge)
    bad = witness()
    bad["variants"][1]["weight"] = -1
    edge.define(document(experiment("other"), bad))
    line = edge.wait_log(REFUSED)[0]
    assert re.search(r"experiment: definitions 2 refused at /experiments/1/variants/1/weight: -1, expected a number >= 0[^;]*; "
                     r"version 1 stays in use$", line), line


@pytest.mark.parametrize("size, expected", [
    ((4 << 20) + 1, r"definitions 2 refused .*expected at most 4194304.*; version 1 stays in use"),
    (9 << 20, r"definitions.json: \d+ bytes, expected at most 8388608; version 1 stays in use")])
def test_an_oversized_document(edges, size, expected):
    edge = edges(CONF, document(witness()), workers=1)
    before = variant(edge)
    edge.define(json.dumps(document(witness("x", "y"))).ljust(size))
    edge.wait_log(expected)
    assert len(errors(edge)) == 1 and variant(edge) == before
    edge.define(document(witness("x", "y")))
    edge.wait(lambda: variant(edge) in ("x", "y"), seconds=1)


def test_a_good_document_is_in_use_on_every_worker_within_a_second(edges):
    edge = edges(CONF, document(witness("v0", "w0")), workers=4)
    workers = edge.wait(lambda: len(found := set(edge.worker_pids())) == 4 and found)
    for n in range(1, 4):
        edge.define(document(witness(f"v{n}", f"w{n}")))
        assert on_every_worker(edge, lambda text, _: text in (f"v{n}", f"w{n}"))
    assert set(edge.worker_pids()) == workers and not errors(edge)


def test_start_with_a_bad_document(edges):
    edge = edges(CONF, '{"schema": 1, "experiments": [}', workers=2)
    assert variant(edge) == ""
    assert len(edge.wait_log(REFUSED + ".*; no experiment runs from it$")) == 1
    edge.define(document(witness()))
    assert on_every_worker(edge, lambda text, _: text in ("control", "green"))
    before = variant(edge)
    edge.stop()
    edge.define('{"schema": 7, "experiments": []}')
    edge.start()
    assert edge.wait_log("definitions 2 in use, the last good one, 1 experiments")
    assert variant(edge) == before
    assert len(edge.lines(REFUSED)) == 2
    edge.define(document(witness("a", "b")))
    assert on_every_worker(edge, lambda text, _: text in ("a", "b"))


@pytest.mark.parametrize("definitions", [None, document(), b""], ids=["absent", "empty", "no-bytes"])
def test_without_experiments_everything_is_served(edges, definitions):
    edge = edges(CONF, definitions, workers=2)
    for _ in range(20):
        assert get(edge.port, "/", {"X-Account": "somebody"}).text.split("|")[:2] == ["", "none"]
    if definitions is None:
        absent = r"definitions\.json: No such file or directory; no experiment runs until it is there"
        assert len(edge.wait_log(absent)) == 1
    edge.define(document(witness()))
    assert on_every_worker(edge, lambda text, _: text in ("control", "green"))


def test_a_removed_document_stays_in_use(edges):
    """Also for the next leader, and behind a restart."""
    edge = edges(CONF, document(witness()), workers=2, allowed="exited on signal 9")
    before = variant(edge)
    edge.wait(lambda: (edge.state / "definitions.good.json").exists())
    (edge.state / "definitions.json").unlink()
    edge.wait_log(r"definitions\.json: No such file or directory; version 1 stays in use")
    assert variant(edge) == before
    epoch = edge.runtime("witness")["epochs"]
    edge.stop()
    edge.start()
    edge.wait_log("definitions 1 in use, the last good one")
    assert on_every_worker(edge, lambda text, _: text == before)
    assert edge.runtime("witness")["epochs"] == epoch


def test_what_this_build_lacks_is_off_and_the_rest_runs(edges):
    files = sorted(CORPUS.glob("not_in_build/*.json"))
    assert len(files) > 10
    several = [edges(CONF, document(witness("x", "y")), workers=1) for _ in files]
    for edge, file in zip(several, files):
        assert variant(edge) in ("x", "y")
        told = json.loads(file.read_text())
        told["experiments"].append(witness())
        edge.define(told)
    for edge, file in zip(several, files):
        edge.wait(lambda: variant(edge) in ("control", "green"))
        off = set(re.findall(r'not in this build \([^)]+\); experiment "([^"]+)" is off', edge.text()))
        assert off, file.name
        told = [get(edge.port, "/", {"X-Account": str(unit)}).text.split("|")[1] for unit in range(10)]
        assert any("witness=" in assigned for assigned in told), (file.name, told)
        assert not any(f"{key}=" in assigned for key in off for assigned in told), (file.name, told)
        assert not errors(edge), file.name
        for key in off:
            assert all("not in this build" in line for line in edge.lines(f'experiment "{key}" is off')), file.name


def test_names_that_no_definition_has_are_warned_of_once(edges):
    conf = """
        server {
            listen 127.0.0.1:{port};
            location / {
                experiment all;
                return 200 "$variant_witness$variant_nobody$experiment_reason_nobody$variant_no_one|$pid";
            }
            location /a { experiment nothing-* none-such; return 200 ""; }
            location /b { experiment witness; experiment_reward no-goal; return 200 ""; }
            location /c { experiment witness; experiment_reward purchase; return 200 ""; }
        }
    """
    edge = edges(conf, document(witness()), workers=3)
    expected = [r'\[warn\].* no definition has the experiment of the variable "\$variant_nobody"',
                r'\[warn\].* no definition has the experiment of the variable "\$variant_no_one"',
                r'\[warn\].* no definition matches the placement "nothing-\* none-such" at \S+nginx\.conf:\d+',
                r'\[warn\].* no definition has the goal "no-goal" of an experiment_reward']
    for n in range(3):
        edge.define(document(witness(f"v{n}", f"w{n}")))
        edge.wait(lambda: get(edge.port, "/", {"X-Account": "1"}).text[:2] in (f"v{n}", f"w{n}"))
    for pattern in expected:
        assert len(edge.wait_log(pattern)) == 1, pattern
    assert len(edge.lines(r"\[warn\]")) == len(expected), edge.lines(r"\[warn\]")


def test_a_full_zone_refuses_loudly_and_evicts_nothing(edges):
    text = """
    experiment_zone zone=e:{size} state={folder}/state filter=64k;
    experiment_unit account header=X-Account;
    """
    edge = edges(CONF, document(witness(goals=[])), zone=text, size="768k", workers=2)
    before = {unit: variant(edge, unit) for unit in map(str, range(40))}
    exposed = {k: v for k, v in edge.metrics().items() if "exposures_total" in k}
    many = [experiment(f"e{n}", [f"v{i}" for i in range(10)], unit="account", render="edge") for n in range(60)]
    edge.define(document(witness(goals=[]), *many))
    edge.wait(lambda: edge.metrics()["nginx_experiment_experiments"] == 61)
    off = edge.metrics()["nginx_experiment_zone_full"]
    assert 0 < off < 60
    line = edge.wait_log(r"\[error\].*the zone is full")
    expected = rf'the zone is full: {off:.0f} experiments are off on this edge, the first is "e\d+"; a larger'
    assert len(line) == 1 and re.search(expected, line[0]), line
    assert {unit: variant(edge, unit) for unit in before} == before
    assert {k: v for k, v in edge.metrics().items() if "exposures_total" in k and "witness" in k} == exposed
    # Without the others there is room again.
    edge.define(document(witness(goals=[]), many[0], many[-1]))
    edge.wait(lambda: edge.metrics()["nginx_experiment_zone_full"] == 0)
    split = 'nginx_experiment_decisions_total{experiment="e59",reason="split"}'
    edge.wait(lambda: variant(edge) and edge.metrics().get(split))
    assert {unit: variant(edge, unit) for unit in before} == before
