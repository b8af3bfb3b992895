"""Whatever befalls the store, visitors do not notice, and nothing is left of it soon after."""
import time

import pytest
from lib.store_faults import FAULTS, Site

LEARNS_S = 0.5       # before each fault
OVERDUE_S = 6        # what was counted so long ago went to the store, or would have
SAY_AGAIN_S = 10
CLOCK_S = 1          # of the log
GROWTH_KB = 24_000   # of what is the own of both workers, once it is over


@pytest.fixture(scope="module")
def site(module_edges):
    made = Site(module_edges)
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
    lasts_s, young_s = (60, OVERDUE_S) if soak else (2, 0)
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
    print(f"\n{name}: {served} answers; back {max(news, totals):.2f} s (news {news:.2f}, totals {totals:.2f}); "
          f"{grown} kB; {sum(map(len, causes.values()))} lines of {len(causes)} causes")
    assert served > 100 and not crowd.wrong and not crowd.failed, (served, crowd.wrong[:3], crowd.failed[:3])
    assert site.edge.handed_on or grown < GROWTH_KB
    hasty = {cause: times for cause, times in causes.items()
             if any(b - a < SAY_AGAIN_S - CLOCK_S for a, b in zip(times, times[1:]))}
    assert not hasty, hasty
