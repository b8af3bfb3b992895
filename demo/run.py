"""`make run`: a shop behind a real nginx with the module, and simulated visitors who like one of its buttons better.

Starts the storefront (demo/storefront.py) and nginx (demo/nginx.conf) in a temporary directory, loopback only, sends
visitors (demo/visitors.py) and shows what the module learns (demo/view.py) until --duration is over, Ctrl-C or SIGTERM.
With --fleet N there are N edges that share a redis-server (demo/fleet.py).
Exit codes: 0 all well; 1 a visitor saw two variants or a wrong page, nginx logged a fault, edges of a fleet disagreed
for more than two seconds, or its totals are not what visitors saw; 2 it could not start.
"""
import argparse
import asyncio
import os
import shutil
import signal
import sys
import time

from edges import START_S, Site, StartError
from engine import Engine
from fleet import Fleet, check_totals
from view import View, variant_counts
from visitors import EXPERIMENT, TRUE_RATES, Crowd


async def wait_until_enrolled(site, crowd, stop):
    """Until each edge gave somebody a variant: nginx listens, and every step from the definitions to the page works."""
    deadline = time.monotonic() + START_S
    for number, edge in enumerate(site.edges):
        trouble = "no answer"
        while True:
            if site.ended() or stop.is_set():
                raise StartError(site.ended() or "stopped")
            try:
                if await crowd.first(number):
                    break
                trouble = "the page shows no variant"
            except (OSError, asyncio.IncompleteReadError) as error:
                trouble = str(error)
            if time.monotonic() > deadline:
                raise StartError(f"no visitor was enrolled within {START_S} s: {trouble}\n{edge.log_tail()}")
            await asyncio.sleep(0.1)


async def watch(site, view, engine, stop):
    """Redraws until it is stopped."""
    while not stop.is_set():
        if site.ended():
            raise StartError(site.ended())
        await engine.refresh()
        view.update()
        try:
            await asyncio.wait_for(stop.wait(), view.period_s)
        except asyncio.TimeoutError:
            pass


async def run(site, options):
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    site.start()
    crowd = Crowd([edge.port for edge in site.edges], options.visitors)
    admin_ports = [edge.admin_port for edge in site.edges]
    fleet = Fleet(admin_ports) if options.fleet else None
    engine = fleet or Engine(admin_ports[0], EXPERIMENT)
    await wait_until_enrolled(site, crowd, stop)
    shops = " ".join(f"http://127.0.0.1:{edge.port}/" for edge in site.edges)
    metrics = " ".join(f"http://127.0.0.1:{port}/metrics" for port in admin_ports)
    notes = [f"The shop, for your own browser: {shops}",
             f"What the module says of itself: {metrics}",
             f"Take a variant away meanwhile: {options.ctl} kill {EXPERIMENT}/orange --reason demo {site.store}"]
    view = View(crowd.tally, engine, notes, fleet)
    view.open()
    if options.duration:
        loop.call_later(options.duration, stop.set)
    tasks = [asyncio.create_task(crowd.arrive())]
    if fleet:
        tasks.append(asyncio.create_task(fleet.watch()))
    try:
        await watch(site, view, engine, stop)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await engine.refresh()
    view.update()
    return crowd, engine, view


def summarise(site, crowd, engine, view, leader, wrong):
    """Prints what came of it; `leader`: the variant of most of the last newcomers; `wrong`: of a fleet, what it found.
    Returns the exit code."""
    tally = crowd.tally
    print("\nSummary", *view.results(), sep="\n")
    print(f"  purchases gained over an equal split: {tally.purchases_gained():+.1f} expected")
    stored = site.stored_pages()
    print("  stored pages:", ", ".join(f"{path} {count}" for path, count in sorted(stored.items())) or "none")
    counts = variant_counts(tally, EXPERIMENT)
    visitors = sum(counts.values()) + sum(crowd.scouts.values())  # those who waited for the start
    print(f"  the module counted {engine.exposures} of {visitors} visitors and {engine.rewards} of "
          f"{sum(tally.buyers[EXPERIMENT, variant] for variant in counts)} purchases")
    best = max(TRUE_RATES, key=TRUE_RATES.get)
    if leader != best and not engine.killed:
        print(f"  Not learned yet: most of the last newcomers got {leader}, not {best}.")
    if tally.released and not engine.killed:
        tally.fault(f"{tally.released} pages came without the variant of their visitor, and nothing was killed")
    for line in wrong:
        tally.fault(line)
    faults = tally.fault_lines + site.log_faults()
    print(f"  {tally.views} page views checked, {tally.faults} faults; {len(site.log_faults())} in nginx's error log")
    for line in faults:
        print(f"  FAULT {line}")
    return 1 if faults else 0


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--module", required=True, type=os.path.abspath, help="ngx_http_experiment_module.so")
    parser.add_argument("--ctl", required=True, type=os.path.abspath, help="experimentctl")
    parser.add_argument("--duration", type=float, default=float(os.environ.get("DURATION") or 0),
                        help="seconds until it ends by itself; 0: never (default: $DURATION)")
    parser.add_argument("--port", type=int, default=0, help="port of the shop; 0: any free one")
    parser.add_argument("--fleet", type=int, default=0, help="edges that share a Redis; 0: one without")
    parser.add_argument("--visitors", type=float, default=300, help="newcomers per second (default: %(default)g)")
    parser.add_argument("--keep", action="store_true", help="keep the temporary directory: logs, state, cache")
    return parser.parse_args()


def main():
    options = parse_options()
    site = Site(options)
    try:
        crowd, engine, view = asyncio.run(run(site, options))
        leader = next((variant for variant, _ in crowd.tally.recent(time.monotonic()).most_common(1)), None)
        wrong = engine.faults() + check_totals(site, crowd, engine) if options.fleet else []
        site.stop()
        return summarise(site, crowd, engine, view, leader, wrong)
    except StartError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    finally:
        site.stop()
        if options.keep:
            print(f"kept: {site.prefix}")
        else:
            shutil.rmtree(site.prefix, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
