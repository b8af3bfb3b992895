"""What experiment_metrics says of a fleet's store: how long it has been silent, what went wrong with it, and that it is
back."""
import time

from lib.client import Browser
from lib.edge import document, experiment
from lib.fleet import Fleet
from lib.redis_topologies import Cluster

CONF = """
    server {
        listen 127.0.0.1:{port};
        location / { experiment all; return 200 "$variant_button"; }
        location = /thanks { experiment all; experiment_reward purchase; return 200 ""; }
        location = /metrics { experiment_metrics; }
    }
"""
PREFIX = "nginx_experiment_"
REASONS = {"unreachable", "auth", "unwritable", "busy", "library", "refused", "other"}
ADAPTIVE = experiment("button", allocation={
    "policy": "thompson", "goal": "purchase", "min_epoch": "1s", "baseline": 0,
    "warm_up": {"exposures": 10, "successes": 0, "for": "0s"}})


def figure(edge, name):
    return edge.metrics()[PREFIX + name]


def age(edge):
    return figure(edge, "store_age_seconds")


def faults(edge):
    """{reason: how many}, of those that were met."""
    begin = PREFIX + 'store_faults_total{reason="'
    all_of_them = {name[len(begin):-2]: value for name, value in edge.metrics().items() if name.startswith(begin)}
    assert set(all_of_them) == REASONS
    return {reason: value for reason, value in all_of_them.items() if value}


def heard(edge):
    edge.wait(lambda: age(edge) < 2)


def test_a_store_that_hangs_or_is_gone_is_seen(fleets, server):
    edge, = fleets(CONF, count=1, definitions=document(experiment("button")))
    edge.wait(lambda: Browser(edge.port).go("/").text)
    heard(edge)
    for away, back in ((server.pause, server.resume), (server.stop, server.start)):
        met, rejoins = faults(edge).get("unreachable", 0), figure(edge, "store_rejoins_total")
        away()
        edge.wait(lambda: age(edge) > 3)
        assert faults(edge)["unreachable"] > met and figure(edge, "store_rejoins_total") == rejoins
        edge.reload()  # another worker leads, the figures go on
        assert age(edge) > 3
        back()
        edge.wait(lambda: figure(edge, "store_rejoins_total") > rejoins)
        heard(edge)
    assert set(faults(edge)) <= {"unreachable", "busy"}


def test_a_part_of_a_cluster_that_is_gone_is_no_outage_that_ends(edges):
    keys = [f"button-{number}" for number in range(9)]
    cluster = Cluster(replicas=0, cluster_require_full_coverage="no")
    try:
        definitions = document(*(experiment(key) for key in ["button", *keys]))
        edge = Fleet(edges, cluster.url, CONF, count=1, definitions=definitions)[0]
        edge.wait(lambda: Browser(edge.port).go("/").text)
        heard(edge)
        rejoins = figure(edge, "store_rejoins_total")
        holders = [cluster.holder_of(f"test:c:{key}:1") for key in keys]
        gone = next(server for server in holders if server is not cluster.holder_of("test:ctl"))
        gone.stop()
        Browser(edge.port).go("/")
        edge.wait(lambda: "unreachable" in faults(edge))
        time.sleep(3)
        heard(edge)
        assert figure(edge, "store_rejoins_total") <= rejoins + 1  # all may be away until the others agree
    finally:
        cluster.end()


def test_what_the_store_refuses_is_told_apart(fleets, server, db):
    edge, = fleets(CONF, count=1, definitions=document(experiment("button")))
    edge.wait(lambda: Browser(edge.port).go("/").text)
    heard(edge)
    db.config_set("min-replicas-to-write", 1)
    edge.wait(lambda: "unwritable" in faults(edge))
    heard(edge)  # it can be read all the time
    assert "auth" not in faults(edge)
    db.config_set("min-replicas-to-write", 0)
    db.acl_setuser("default", commands=["-fcall"])
    edge.wait(lambda: "auth" in faults(edge))


def test_an_edge_that_starts_without_its_store_waits_for_it(fleets, server):
    server.stop()
    edge, = fleets(CONF, count=1)
    edge.wait(lambda: age(edge) > 2)
    assert set(faults(edge)) == {"unreachable"}
    server.start()
    edge.wait(lambda: figure(edge, "store_rejoins_total") == 1)
    heard(edge)


def test_a_node_of_its_own_has_no_such_figures(edges):
    edge = edges(CONF, document(experiment("button")))
    edge.wait(lambda: Browser(edge.port).go("/").text)
    assert not [name for name in edge.metrics() if name.startswith(PREFIX + "store_")]


def test_the_best_arm_is_told_by_the_edge_that_knows(fleets):
    """The one that allocates; of the others, and before the end of the warm-up, no figure is no guess."""
    fleet = fleets(CONF, count=2, definitions=document(ADAPTIVE))

    def best(edge):
        begin = PREFIX + 'best_ratio{experiment="button",variant="'
        return {name[len(begin):-2]: value for name, value in edge.metrics().items() if name.startswith(begin)}
    for edge in fleet:
        edge.wait(lambda: Browser(edge.port).go("/").text)
        assert best(edge) == {}

    def told_by_one():
        for edge in fleet:
            browser = Browser(edge.port)
            if browser.go("/").text == "green":
                browser.go("/thanks")
        return any(best(edge) for edge in fleet)
    fleet[0].wait(told_by_one, seconds=60, step=0.1)
    told = [best(edge) for edge in fleet if best(edge)]
    assert len(told) == 1 and set(told[0]) == {"control", "green"}
    assert abs(sum(told[0].values()) - 1) < 1e-4 and told[0]["green"] > 0.5
