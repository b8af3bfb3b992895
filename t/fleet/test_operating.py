"""What docs/operating.md has operators do, step by step: keys, from one node to a fleet, to another Redis, kills with Redis
down."""
import json
import time

from lib.client import Browser
from lib.edge import ZONE, document, experiment
from lib.fleet import KEYS, SPACE, by_variant, ctl, store_line
from lib.redis_server import RedisServer
from lib.redis_topologies import wait

CONF = """
    server {
        listen 127.0.0.1:{port};
        location / { experiment all; return 200 "$variant_button|$experiment_reason_button|$experiment_epoch_button"; }
        location = /thanks { experiment all; experiment_reward purchase; return 200 ""; }
        location = /metrics { experiment_metrics; }
    }
"""
BUTTON = experiment("button")
NEW_KEY = "c3" * 32 + "\n"


def page(browser):
    return browser.go("/").text.split("|")


def enrolled(edge):
    """Whether newcomers get a variant; each worker has a plan of its own, and scripts are not counted."""
    known = all(Browser(edge.port).fetch("/").text.split("|")[1] != "unknown" for _ in range(16))
    return known and page(Browser(edge.port))[0]


def everybody(edge, reason, seconds=5):
    """Until newcomers are answered so by each of the workers."""
    edge.wait(lambda: all(page(Browser(edge.port))[1] == reason for _ in range(8)), seconds=seconds)


def write_keys(edge, text):
    (edge.folder / "keys").write_text(text)


def findings(url, kind="findings"):
    return [found["what"] for found in json.loads(ctl(url, "doctor", "--json").stdout)[kind]]


def test_keys_are_rotated_and_nobody_notices(fleets, db):
    fleet = fleets(CONF, count=2, definitions=document(BUTTON))
    url = fleet.url
    for edge in fleet:
        edge.wait(lambda: enrolled(edge))
    browsers = [Browser(fleet[n % 2].port) for n in range(12)]
    seen = [page(browser)[0] for browser in browsers]

    def same_everywhere():
        for browser, variant in zip(browsers, seen):
            for edge in fleet:
                browser.port = edge.port
                assert page(browser)[:2] == [variant, "sticky"]

    def rotates():
        assert not [line for line in findings(url) if "refused on" in line]
        return findings(url, "notes")

    for text in (KEYS + NEW_KEY, NEW_KEY + KEYS):
        for number, edge in enumerate(fleet):
            write_keys(edge, text)
            edge.reload()
            same_everywhere()
            edge.wait(lambda: bool(rotates()) == (number == 0), seconds=30, step=0.5)
    newcomer = Browser(fleet[0].port)
    variant = page(newcomer)[0]
    for edge in fleet:
        write_keys(edge, NEW_KEY)
        edge.reload()
    newcomer.port = fleet[1].port
    assert page(newcomer)[:2] == [variant, "sticky"]
    assert page(browsers[0])[1] != "sticky"  # signed by the key that is gone
    write_keys(fleet[0], KEYS)  # an edge that was forgotten
    fleet[0].reload()
    edge.wait(lambda: len([line for line in findings(url) if "refused on" in line]) == 2, seconds=30, step=0.5)


def test_a_node_becomes_a_fleet(edges, server, db):
    """Its cookies hold, what it had is set aside, and it begins to count anew."""
    url = f"redis://{server.address}"
    edge = edges(CONF, definitions=document(BUTTON))
    edge.wait(lambda: enrolled(edge))
    browsers = [Browser(edge.port) for _ in range(10)]
    seen = [page(browser)[0] for browser in browsers]
    for target in ("other", "button/green"):
        edge.ctl("kill", target, "--reason", "of before", check=True)
    edge.wait(lambda: (edge.state / "runtime.json").exists())
    edge.stop()  # its counts are on the disk then

    write_keys(edge, (edge.state / "keys").read_text())
    done = ctl(url, "publish", str(edge.state / "definitions.json"))
    assert done.returncode == 0, done.stderr
    edge.configure(CONF, zone=ZONE + store_line(url))
    edge.start()
    edge.wait(lambda: enrolled(edge))
    assert json.loads((edge.state / "fleet.json").read_text())
    assert {"runtime.json.former", "definitions.good.json.former"} <= {path.name for path in edge.state.iterdir()}
    assert edge.lines(r"runtime\.json.*\.former")
    dropped, = edge.lines(r"\[warn\].*killed on this node until now, and not in the fleet: ")
    assert '"button/green", "other"; what is to stay killed: experimentctl kill' in dropped
    assert dropped.endswith(f"--store {url} --namespace {SPACE}")
    in_vain = edge.ctl("publish", str(edge.state / "definitions.json"))
    assert in_vain.returncode == 1 and f"use --store {url} --namespace {SPACE}" in in_vain.stderr
    for browser, variant in zip(browsers, seen):
        assert page(browser)[:2] == [variant, "sticky"]
    newcomers = [Browser(edge.port) for _ in range(10)]
    variants = [page(browser)[0] for browser in newcomers]
    want = {variant: variants.count(variant) for variant in set(variants)}
    # The scouts who waited for the start are newcomers of the fleet as well.
    wait(lambda: (got := by_variant(db, "button", 0)) and sum(got.values()) >= len(newcomers) and
         all(got[v] >= n for v, n in want.items()))
    assert sum(by_variant(db, "button", 0).values()) < 2 * len(newcomers)


def test_an_edge_is_a_node_of_its_own_again(fleets):
    """Its directory is the store then: it takes documents, and a fleet would have to begin with it anew."""
    edge, = fleets(CONF, count=1, definitions=document(BUTTON))
    edge.wait(lambda: enrolled(edge))
    edge.wait(lambda: (edge.state / "runtime.json").exists())
    edge.stop()
    (edge.state / "definitions.json").write_text(json.dumps(document(experiment("other"))))
    edge.configure(CONF, zone=ZONE + "    experiment_keys {folder}/keys;\n")
    edge.start()
    edge.wait(lambda: page(Browser(edge.port))[1] == "unknown")
    assert not (edge.state / "fleet.json").exists()
    (edge.folder / "new.json").write_text(json.dumps(document(BUTTON)))
    assert edge.ctl("publish", str(edge.folder / "new.json")).returncode == 0
    edge.wait(lambda: enrolled(edge))


def test_edges_that_call_different_libraries_are_called_out(fleets, server, db):
    """One of a release that did not say so yet, and one of a release to come."""
    edge, = fleets(CONF, count=1, definitions=document(BUTTON))
    edge.wait(lambda: db.hlen(f"{SPACE}:edges") == 1)
    report, = db.hvals(f"{SPACE}:edges")  # the first one says all of it
    seconds, text = report.decode().split(";", 1)
    said = json.loads(text)
    assert said["library"] >= 1 and len(said["ring"]) == 1
    assert not [line for line in findings(f"redis://{server.address}") if "librar" in line]
    for name, version in (("Old", None), ("New", 99)):
        other = {**said, "host": name, "library": version}
        db.hset(f"{SPACE}:edges", name * 7 + "x", f"{seconds};{json.dumps(other)}")
    told = findings(f"redis://{server.address}")
    assert any("edges call different versions of the library: 1 on " in line and "99 on New" in line for line in told)
    assert any("edges call version 99 of the library, this experimentctl is for version" in line for line in told)


def test_a_fleet_moves_to_another_server(fleets, server, db):
    """As a replica that becomes the master, with another URL: nothing is counted twice or lost."""
    fleet = fleets(CONF, count=2, definitions=document(BUTTON))
    for edge in fleet:
        edge.wait(lambda: enrolled(edge))
    db.config_set("min-replicas-to-write", 0)
    with RedisServer(replicaof=f"127.0.0.1 {server.port}", repl_diskless_sync_delay=0) as new:
        wait(lambda: new.client().info("replication")["master_link_status"] == "up")
        browsers = [Browser(fleet[n % 2].port) for n in range(20)]
        seen = [page(browser)[0] for browser in browsers]
        db.config_set("min-replicas-to-write", 9)
        late = Browser(fleet[0].port)
        late_variant = page(late)[0]
        assert late_variant
        new.client().execute_command("REPLICAOF", "NO", "ONE")
        for edge in fleet:
            edge.configure(CONF, zone=ZONE + store_line(f"redis://{new.address}"))
            edge.reload()
        for edge in fleet:
            edge.wait(lambda: enrolled(edge))
        for browser, variant in zip([*browsers, late], [*seen, late_variant]):
            assert page(browser)[:2] == [variant, "sticky"]
        before = sum(by_variant(db, "button", 0).values())
        assert ctl(f"redis://{new.address}", "kill", "button", "--reason", "test").returncode == 0
        for edge in fleet:
            everybody(edge, "killed")
        # All of them stand in the new one, which the old one had no more of.
        counted = sum(value for edge in fleet for name, value in edge.metrics().items()
                      if name.startswith("nginx_experiment_exposures_total"))
        assert counted > before
        edge.wait(lambda: sum(by_variant(new.client(), "button", 0).values()) == counted)


def test_kills_with_redis_down_reach_the_fleet_later(fleets, server, db):
    fleet = fleets(CONF, count=2, definitions=document(BUTTON))
    for edge in fleet:
        edge.wait(lambda: enrolled(edge))
    server.stop()
    fleet[0].kill_file.write_text("button/green\n")
    fleet[0].wait(lambda: {page(Browser(fleet[0].port))[0] for _ in range(12)} == {"control", ""}, seconds=3)
    done = fleet[1].ctl("kill", "button", "--reason", "all of it")
    assert done.returncode == 0, done.stderr
    everybody(fleet[1], "killed", seconds=3)
    server.start()
    for edge in fleet:
        everybody(edge, "killed", seconds=15)
    kills = json.loads(db.hget(f"{SPACE}:ctl", "x:button"))["kills"]
    assert {kill["variant"] for kill in kills} == {"", "green"}
    refused = fleet.ctl("resume", "button", "--reason", "mended", check=True)
    assert refused.returncode == 0
    for edge in fleet:
        edge.wait(lambda: {page(Browser(edge.port))[0] for _ in range(12)} == {"control", ""})


def test_kill_file_while_redis_hangs(fleets, server):
    fleet = fleets(CONF, count=1, definitions=document(BUTTON))
    edge = fleet[0]
    edge.wait(lambda: enrolled(edge))
    server.pause()
    time.sleep(1.5)
    began = time.monotonic()
    edge.kill_file.write_text("*\n")
    everybody(edge, "killed", seconds=10)
    took = time.monotonic() - began
    server.resume()
    assert took < 2.5, took


def test_counts_of_a_former_generation_go_a_month_after_a_reset(fleets, db):
    fleet = fleets(CONF, count=1, definitions=document(BUTTON))
    edge = fleet[0]
    edge.wait(lambda: enrolled(edge))
    former, current = f"{SPACE}:c:button:1", f"{SPACE}:c:button:2"
    edge.wait(lambda: db.exists(former))
    assert db.ttl(former) == -1
    db.copy(former, current)
    db.expire(current, 1000)  # as if it had been a former one as well, before a failover forgot the one behind it
    fleet.ctl("reset", "button", "--reason", "the page is another", check=True)
    edge.wait(lambda: enrolled(edge))
    edge.reload()  # the allocator looks at all hashes when it begins, and each hour
    edge.wait(lambda: 29 * 86400 < db.ttl(former) <= 30 * 86400 and db.ttl(current) == -1)
