"""`make run`: a shop behind a real nginx with the module, and simulated visitors who like one of its buttons better.

Starts the storefront (demo/storefront.py) and nginx (demo/nginx.conf) in a temporary directory, loopback only, sends
visitors (demo/visitors.py) and shows what the module learns (demo/view.py) until --duration is over, Ctrl-C or SIGTERM.
Exit codes: 0 all well; 1 a visitor saw two variants or a wrong page, or nginx logged a fault; 2 it could not start.
"""
import argparse
import asyncio
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter

from engine import Engine
from view import View, variant_counts
from visitors import EXPERIMENT, TRUE_RATES, Crowd

HERE = pathlib.Path(__file__).resolve().parent
START_S = 15
STOP_S = 10
CACHE_KEY = re.compile(rb"\nKEY: (?:\0[^\0]*\0)?http127\.0\.0\.1(/[^\n]*)\n")
LOG_FAULT = re.compile(r"\[(alert|emerg)\]|exited on signal")


class StartError(Exception):
    pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Site:
    """nginx and the storefront in one temporary directory; each process started here is ended here, by its handle."""

    def __init__(self, module, port):
        self.prefix = pathlib.Path(tempfile.mkdtemp(prefix="experiment-demo-"))
        self.prefix.chmod(0o755)  # nginx started by root serves as another user
        self.state = self.prefix / "state"
        self.error_log = self.prefix / "error.log"
        self.port = port or free_port()
        self.admin_port = free_port()
        self.backend_port = free_port()
        self._module = module
        self._processes = []

    def start(self):
        self.state.mkdir()
        shutil.copy(HERE / "definitions.json", self.state)
        values = {"MODULE": self._module, "PORT": self.port, "ADMIN": self.admin_port,
                  "BACKEND": self.backend_port}
        conf = re.sub(r"@([A-Z]+)@", lambda match: str(values[match[1]]), (HERE / "nginx.conf").read_text())
        (self.prefix / "nginx.conf").write_text(conf)
        self._spawn([sys.executable, str(HERE / "storefront.py"), str(self.backend_port)], stdin=subprocess.PIPE)
        self._spawn([shutil.which("nginx") or "/usr/sbin/nginx", "-p", f"{self.prefix}/", "-c", "nginx.conf",
                     "-e", str(self.error_log)], stdin=subprocess.DEVNULL)

    def _spawn(self, command, **options):
        # A session of its own: Ctrl-C reaches only this process, which then stops the others in order.
        try:
            self._processes.append(subprocess.Popen(command, start_new_session=True, **options))
        except OSError as error:
            raise StartError(f"cannot start {command[0]}: {error}") from error

    def ended(self):
        """The first process that ended by itself as text, or None."""
        for process in self._processes:
            if process.poll() is not None:
                return f"{' '.join(process.args[:2])} ended with {process.returncode}\n{self.log_tail()}"
        return None

    def stop(self):
        """nginx first and gracefully, since an `open socket left` is only told then; then what it depends on."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGQUIT if "nginx.conf" in process.args else signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log_tail(self):
        return "".join(self.error_log.read_text().splitlines(True)[-12:]) if self.error_log.exists() else ""

    def log_faults(self):
        lines = self.error_log.read_text().splitlines() if self.error_log.exists() else []
        return [line for line in lines if LOG_FAULT.search(line)]

    def stored_pages(self):
        """Bodies in nginx's cache by path, read from the key at the head of each file."""
        pages = Counter()
        for file in filter(pathlib.Path.is_file, (self.prefix / "cache").rglob("*")):
            key = CACHE_KEY.search(file.read_bytes())
            if key:
                pages[key[1].decode()] += 1
        return pages


async def wait_until_enrolled(site, crowd, stop):
    """Until the first visitor gets a variant: nginx listens, and every step from the definitions to the page works."""
    deadline = time.monotonic() + START_S
    trouble = "no answer"
    while time.monotonic() < deadline:
        if site.ended() or stop.is_set():
            raise StartError(site.ended() or "stopped")
        try:
            if await crowd.first():
                return
            trouble = "the page shows no variant"
        except (OSError, asyncio.IncompleteReadError) as error:
            trouble = str(error)
        await asyncio.sleep(0.1)
    raise StartError(f"no visitor was enrolled within {START_S} s: {trouble}\n{site.log_tail()}")


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
    crowd = Crowd(site.port, options.visitors)
    engine = Engine(site.admin_port, EXPERIMENT)
    await wait_until_enrolled(site, crowd, stop)
    notes = [f"The shop, for your own browser: http://127.0.0.1:{site.port}/",
             f"What the module says of itself: http://127.0.0.1:{site.admin_port}/metrics",
             f"Take a variant away meanwhile: {options.ctl} kill {EXPERIMENT}/orange --reason demo "
             f"--state {site.state}"]
    view = View(crowd.tally, engine, notes)
    view.open()
    if options.duration:
        loop.call_later(options.duration, stop.set)
    visitors = asyncio.create_task(crowd.arrive())
    try:
        await watch(site, view, engine, stop)
    finally:
        visitors.cancel()
        await asyncio.gather(visitors, return_exceptions=True)
    await engine.refresh()
    view.update()
    return crowd.tally, engine, view


def summarise(site, tally, engine, view, leader):
    """Prints what came of it; `leader`: the variant of most of the last newcomers. Returns the exit code."""
    print("\nSummary", *view.results(), sep="\n")
    print(f"  purchases gained over an equal split: {tally.purchases_gained():+.1f} expected")
    stored = site.stored_pages()
    print("  stored pages:", ", ".join(f"{path} {count}" for path, count in sorted(stored.items())) or "none")
    counts = variant_counts(tally, EXPERIMENT)
    # One more than the crowd: the scout who waited for the start.
    print(f"  the module counted {engine.exposures} of {1 + sum(counts.values())} visitors and {engine.rewards} of "
          f"{sum(tally.buyers[EXPERIMENT, variant] for variant in counts)} purchases")
    best = max(TRUE_RATES, key=TRUE_RATES.get)
    if leader != best:
        print(f"  Not learned yet: most of the last newcomers got {leader}, not {best}.")
    if tally.released and not engine.killed:
        tally.fault(f"{tally.released} pages came without the variant of their visitor, and nothing was killed")
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
    parser.add_argument("--visitors", type=float, default=300, help="newcomers per second (default: %(default)g)")
    parser.add_argument("--keep", action="store_true", help="keep the temporary directory: logs, state, cache")
    return parser.parse_args()


def main():
    options = parse_options()
    site = Site(options.module, options.port)
    try:
        tally, engine, view = asyncio.run(run(site, options))
        leader = next((variant for variant, _ in tally.recent(time.monotonic()).most_common(1)), None)
        site.stop()
        return summarise(site, tally, engine, view, leader)
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
