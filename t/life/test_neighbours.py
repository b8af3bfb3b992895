"""Another nginx beside a running one: on its state directory, or only looking at its configuration."""
import hashlib
import signal

from lib.client import Browser
from lib.crowd import SERVER, Crowd, assert_stored, by_variant, roomy
from lib.edge import document, experiment, is_running

DOCUMENT = document(experiment("visit"), experiment("button", unit="account"))


def test_two_nginx_on_one_state_directory_add_up(edges):
    """Each has a zone and a file of counts; both know all visitors. Who ends takes nothing with it."""
    one = edges(SERVER, DOCUMENT, **roomy())
    shared = {**roomy(), "zone": roomy()["zone"].replace("{folder}/state", str(one.state))}
    two = edges(SERVER, None, **shared)
    one.wait((one.state / "runtime.json").exists)
    regular = Browser(one.port)
    first = regular.go("/").text.split("|")[0]
    with Crowd(one.port, seed=1) as left, Crowd(two.port, seed=2) as right:
        for _ in range(2):
            known = left.answers, right.answers
            one.wait(lambda: left.answers > known[0] + 150 and right.answers > known[1] + 150)
            regular.port = two.port
            assert regular.go("/").text.split("|")[0] == first
            two.reload()
    assert not left.failed and not left.wrong and not right.failed and not right.wrong
    left.exposed["visit", first] += 1
    for edge, crowd in ((one, left), (two, right)):
        assert by_variant(edge.metrics(), "exposures_total") == crowd.exposed  # a node's own
    two.stop()
    with Crowd(one.port, seed=3) as after:
        one.wait(lambda: after.answers > 100)
    one.stop()
    assert_stored(one, left, right, after)
    assert len(list(one.state.glob("counters/*.json"))) == 2 and len(one.runtime("visit")["epochs"]) == 1
    assert not one.lines(r"\[(error|crit)\]") and not two.lines(r"\[(error|crit)\]")


def content(edge):
    return {path.name: (path.stat().st_mtime_ns, hashlib.md5(path.read_bytes()).hexdigest())
            for path in [*edge.state.glob("**/*"), edge.log, edge.folder / "nginx.pid"] if path.is_file()}


def test_testing_the_configuration_changes_nothing(edges):
    edge = edges(SERVER, DOCUMENT, **roomy())
    with Crowd(edge.port) as crowd:
        edge.wait(lambda: crowd.answers > 100)
    settled = lambda: sum(len(path.read_bytes()) for path in edge.state.glob("counters/*.json"))
    size = edge.wait(settled)
    edge.wait(lambda: settled() > size)  # flushed, and quiet from now on
    workers, metrics, before = edge.all_workers(), edge.metrics(), content(edge)
    for _ in range(3):
        done = edge.test()
        assert done.returncode == 0 and "test is successful" in done.stderr
        told = edge.command("-T")
        assert told.returncode == 0 and "experiment_zone zone=experiments" in told.stdout
    for text in ("experiment_types;", "experiment_cohort_max -1;", "experiment_zone zone=other:1m state=/;"):
        edge.configure(SERVER + text)
        assert edge.command("-t", "-e", "stderr").returncode == 1
    assert content(edge) == before and edge.metrics() == metrics and edge.worker_pids() == workers


def test_testing_makes_no_state_directory(edges):
    edge = edges(SERVER, None, start=False, **roomy())
    edge.state.rmdir()
    assert edge.test().returncode == 0
    assert not edge.state.exists()


def test_daemon_off(edges):
    edge = edges(SERVER, DOCUMENT, daemon=False, **roomy())
    with Crowd(edge.port) as crowd:
        edge.wait(lambda: crowd.answers > 100)
        edge.reload()
        known = crowd.answers
        edge.wait(lambda: crowd.answers > known + 100)
    assert edge.pid == edge.child.pid and not crowd.failed and not crowd.wrong
    edge.stop()
    assert edge.child.wait(5) == 0
    assert_stored(edge, crowd)


def test_a_single_process(edges):
    """master_process off: nginx as its developers run it, with everything in one process."""
    edge = edges(SERVER, DOCUMENT, daemon=False, master=False, **roomy())
    for n, number in enumerate((signal.SIGQUIT, signal.SIGTERM)):
        with Crowd(edge.port, seed=n + 1) as crowd:
            edge.wait(lambda: crowd.answers > 100)
        assert crowd.pids == {edge.pid} and not crowd.failed and not crowd.wrong
        assert by_variant(edge.metrics(), "exposures_total") == crowd.exposed
        pid = edge.pid
        edge.stop(number)
        assert not is_running(pid)
        crowds = [crowd] if n == 0 else [crowds[0], crowd]
        assert_stored(edge, *crowds)
        if n == 0:
            edge.start()
