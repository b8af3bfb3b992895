"""Who is enrolled, what the backend hears of it, and what is remembered."""
import json
import pathlib
import sys

import pytest
from lib.client import NAVIGATION, Browser, assignments, get
from lib.edge import document, experiment

CONF = """
    server {
        listen 127.0.0.1:{port};
        location / { experiment all; proxy_pass http://{backend}; }
        location /none/ { experiment off; proxy_pass http://{backend}; }
        location = /vars { experiment all; return 200
            "$variant_button|$experiment_reason_button|$experiment_epoch_button|$experiment_propensity_button|$experiment_cohort"; }
        location = /metrics { experiment_metrics; }
    }
"""


@pytest.fixture
def edge(edges, backend):
    backend.reset()
    return edges(CONF, document(experiment("button"), experiment("account-test", ("a", "b"), unit="account")), backend)


def test_a_visitor_keeps_the_variant(edge):
    seen = set()
    for _ in range(20):
        browser = Browser(edge.port)
        first = assignments(json.loads(browser.go("/").text)["assignments"])
        assert set(browser.cookies) == {"uid", "exp"}
        for _ in range(3):
            assert assignments(json.loads(browser.go("/").text)["assignments"]) == first
        assert assignments(json.loads(browser.fetch("/").text)["assignments"]) == first
        seen.add(first["button"])
    assert seen == {"control", "green"}


def test_header_units_need_no_cookie(edge):
    answer = get(edge.port, "/", {"X-Account": "7"})
    assert set(assignments(json.loads(answer.text)["assignments"])) == {"account-test"}
    assert not answer.cookies
    again = get(edge.port, "/", {"X-Account": "7"})
    assert json.loads(again.text)["assignments"] == json.loads(answer.text)["assignments"]


def test_scripts_before_the_first_page_decide_nothing(edge):
    browser = Browser(edge.port)
    assert json.loads(browser.fetch("/").text)["assignments"] == "none"
    assert not browser.cookies
    assert browser.fetch("/vars").text == "|no_identity||" + "|-"


def test_none_is_said_where_nothing_is_placed(edge):
    told = json.loads(Browser(edge.port).go("/none/").text)
    assert (told["assignments"], told["cohort"]) == ("none", "-")


@pytest.mark.parametrize("name", ["Experiment-Assignments", "experiment_assignments", "EXPERIMENT-COHORT", "Experiment_Cohort",
                                  "experiment-signature", "Experiment-Unit"])
def test_forged_headers_never_reach_the_backend(edges, backend, name):
    conf = "underscores_in_headers on;\n" + CONF
    edge = edges(conf, document(experiment("button")), backend)
    for more in range(4):
        forged = {f"X-{i}": "x" for i in range(more * 9)}
        forged[name] = "button=forged"
        forged["X-Last"] = "kept"
        told = json.loads(get(edge.port, "/", {**NAVIGATION, **forged}).text)
        names = [k.lower().replace("_", "-") for k, _ in told["headers"]]
        assert names.count("experiment-assignments") == 1 and names.count("experiment-cohort") == 1
        assert "forged" not in json.dumps(told)
        assert ["X-Last", "kept"] in told["headers"]
        assert sum(k.startswith("x-") and k != "x-last" for k in names) == more * 9


def test_variables(edge):
    variant, reason, epoch, propensity, cohort = Browser(edge.port).go("/vars").text.split("|")
    assert reason == "split" and propensity == "0.5000" and cohort == "button." + variant
    assert int(epoch) >> 20 == 1


def test_the_first_table_can_be_recomputed(edge):
    """With any xxHash library: the reference of t/assignment."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "assignment"))
    import assignment_reference as reference
    hits = 0
    for unit in range(200):
        told = assignments(json.loads(get(edge.port, "/", {"X-Account": f"unit-{unit}"}).text)["assignments"])
        h = reference.draw(reference.seed_of("account-test", "arm"), reference.unit_hash(f"unit-{unit}"))
        expected = "a" if reference.slot(h) < 5000 else "b"
        assert told["account-test"] == expected
        hits += expected == "a"
    assert 60 < hits < 140
