"""Whatever befalls the store, visitors do not notice, and nothing is left of it soon after."""
import re
import time

import pytest
from lib.client import get
from lib.redis_server import RedisServer
from lib.store_faults import FAULTS, Site
from lib.transport import Published, wait_served

LEARNS_S = 0.5       # before each fault
LASTS_S = 1.5
FLUSH_S = 5.5        # in which totals are sent once
SENDS = ("full", "without_replicas", "one_wrong_type")  # faults that are met by sending totals
OVERDUE_S = 6        # what was counted so long ago went to the store, or would have
SAY_AGAIN_S = 10
CLOCK_S = 1          # of the log
GROWTH_KB = 24_000   # of what is the own of both workers, once it is over


@pytest.fixture(scope="module")
def site(module_edges, soak):
    made = Site(module_edges, soak)
    made.wait(time.monotonic() + 10, made.news_everywhere, "every worker enrolls")
    yield made
    made.end()


def within(name, soak):
    """Seconds until all is as before. Machines of tests are busy, and a start of a server takes its time."""
    if not soak:
        return 10
    return 6 if name == "refusing" else 2


@pytest.mark.parametrize("name", FAULTS)
def test_requests_never_notice_and_all_is_well_soon_after(site, soak, name):
    logged, resident = len(site.edge.text()), site.resident_kb()
    lasts_s, young_s = (60, OVERDUE_S) if soak else (FLUSH_S if name in SENDS else LASTS_S, 0)
    with site.crowd() as crowd:
        time.sleep(LEARNS_S)
        with FAULTS[name](site):
            time.sleep(lasts_s - young_s)
            owed = site.truth()
            time.sleep(young_s)
            served = crowd.answers
        back = time.monotonic()
        crowd.stop()
    news, totals = site.recover(back, within(name, soak), owed)
    site.settle(10)
    grown, causes = site.resident_kb() - resident, site.causes(logged)
    print(f"\n{name}: {served} answers; back after {news:.2f} s, totals after {totals:.2f} s; {grown} kB; "
          f"{sum(map(len, causes.values()))} lines of {len(causes)} causes")
    assert served > 100 and not crowd.wrong and not crowd.failed, (served, crowd.wrong[:3], crowd.failed[:3])
    assert site.edge.handed_on or grown < GROWTH_KB
    hasty = {cause: times for cause, times in causes.items()
             if any(b - a < SAY_AGAIN_S - CLOCK_S for a, b in zip(times, times[1:]))}
    assert not hasty, hasty


# --- what operators and nodes do meanwhile ---
def buttons(edge):
    """What twenty accounts are shown, in requests that nobody counts."""
    return [get(edge.port, "/", {"X-Account": f"reader-{n}", "Sec-Purpose": "prefetch"}).text.split("|")[1]
            for n in range(20)]


def test_kill_and_resume_work_in_a_full_store(site):
    with FAULTS["full"](site):
        for verb, shown in (("kill", {""}), ("resume", {"control", "green"})):
            done = site.fleet.ctl(verb, "button", "--reason", "it burns")
            assert done.returncode == 0 and re.search("OOM.*not in the audit log", done.stderr), done
            site.edge.wait(lambda: set(buttons(site.edge)) == shown)


def test_an_edge_that_restarts_meanwhile_serves_what_it_knew(site):
    before, edition = buttons(site.edge), site.edition
    with FAULTS["killed"](site):
        site.edge.stop()
        site.edge.start()
        with site.crowd() as crowd:
            assert buttons(site.edge) == before
            site.wait(time.monotonic() + 10, site.news_everywhere, f"edition {edition} everywhere")
            time.sleep(1)
        assert crowd.answers > 20 and not crowd.wrong and not crowd.failed
    site.recover(time.monotonic(), 10, site.truth())


def test_a_library_that_may_not_be_loaded_is_not_sent_again_and_again(stores):
    users = ["edge on nopass ~* &* +@all -function", "default on nopass ~* &* +@all"]
    with RedisServer(user=users) as server:
        publish = Published(server.client())()
        server.client().function_delete("experiment")
        edge = stores(f"redis://{server.address}", "user=edge password_file=password",
                      files={"password": ("x", 0o644)})
        edge.wait_log("the library is missing, and cannot be loaded: NOPERM")
        time.sleep(3)
        loads = server.client().info("commandstats")["cmdstat_function|load"]
        assert loads["rejected_calls"] <= 2 and len(edge.lines("the library is missing")) == 1, loads
        publish()  # with the library, as somebody who may load it
        wait_served(edge, 2, seconds=10)
