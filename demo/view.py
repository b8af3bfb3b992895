"""The terminal: redrawn in place where standard output is one, else one plain line every few seconds."""
import math
import os
import shutil
import sys
import time

from visitors import EXPERIMENT, TRUE_RATES

BAR = 24
REDRAW_S = 0.5
LINE_S = 5.0
COLOURS = {"control": "34", "green": "32", "orange": "33"}
Z95 = 1.959964


def wilson(successes, trials):
    """95 % interval of a proportion (Wilson, 1927); (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    rate, spread = successes / trials, Z95 * Z95 / trials
    centre = (rate + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def percent(value, digits=1):
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def share(counts, variant):
    total = sum(counts.values())
    return counts[variant] / total if total else None


def bar(value, width=BAR):
    full = round((value or 0) * width)
    return "█" * full + "·" * (width - full)


def variant_counts(tally, experiment):
    """Visitors by variant of one experiment, in the order of their names with control first."""
    names = sorted((v for e, v in tally.visitors if e == experiment), key=lambda name: (name != "control", name))
    return {name: tally.visitors[experiment, name] for name in names}


def result_line(tally, experiment, variant, count):
    bought = tally.buyers[experiment, variant]
    low, high = wilson(bought, count)
    return f"{count:>8} visitors {bought:>6} bought {percent(bought / count):>7}  [{percent(low)} … {percent(high)}]"


class View:
    def __init__(self, tally, engine, notes, fleet=None, stream=sys.stdout):
        self._tally = tally
        self._engine = engine
        self._fleet = fleet  # whose edges are compared
        self._notes = notes  # lines under the figures: addresses and commands
        self._stream = stream
        self._live = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._coloured = self._live and "NO_COLOR" not in os.environ
        self._height = 0

    @property
    def period_s(self):
        return REDRAW_S if self._live else LINE_S

    def open(self):
        rates = ", ".join(f"{variant} {percent(rate, 0)}" for variant, rate in TRUE_RATES.items())
        self._print([f"True rate of purchase, hidden from nginx: {rates}.", *self._notes])

    def update(self):
        """Draws the present state. Live: over the last one; else as one line below it."""
        if not self._live:
            return self._print([self.line()])
        width = shutil.get_terminal_size().columns
        lines = [line if "\033" in line else line[:width - 1] for line in self.lines()]
        back = f"\033[{self._height}F" if self._height else ""
        self._stream.write(back + "".join(f"{line}\033[K\n" for line in lines) + "\033[J")
        self._stream.flush()
        self._height = len(lines)

    def line(self):
        tally, now = self._tally, time.monotonic()
        recent = tally.recent(now)
        shares = " ".join(f"{v} {percent(share(recent, v), 0)}" for v in TRUE_RATES)
        best = " ".join(f"{v} {percent(self._engine.p_best.get(v), 0)}" for v in TRUE_RATES)
        visitors = sum(variant_counts(tally, EXPERIMENT).values())
        return (f"{now - tally.started:5.0f} s  {visitors} visitors {tally.views} views  newcomers: {shares}  "
                f"P(best): {best}  epoch {self.epoch()}  cache {percent(tally.hit_ratio(), 0)}  faults {tally.faults}"
                + (f"  edges: {self._fleet.line()}" if self._fleet else ""))

    def epoch(self):
        return "-" if self._engine.epoch is None else self._engine.epoch

    def lines(self):
        tally, now = self._tally, time.monotonic()
        elapsed = max(now - tally.started, 1e-9)
        recent, counts = tally.recent(now), variant_counts(tally, EXPERIMENT)
        lines = ["", f"  {EXPERIMENT}   newcomers of the last 5 s" + " " * 19 + "all    P(best)"]
        for variant in TRUE_RATES:
            here = share(recent, variant)
            total = counts.get(variant, 0) / max(sum(counts.values()), 1)
            row = (f"  {variant:<10} {bar(here)} {percent(here):>7}   {percent(total):>7}   "
                   f"{percent(self._engine.p_best.get(variant)):>7}")
            lines.append(self._colour(row, COLOURS[variant]))
        lines += ["", *self.results(), ""]
        if self._fleet:
            lines += [*self._fleet.lines(), ""]
        lines += [
            f"  epoch {self.epoch()}   {elapsed:.0f} s   {tally.views} page views, {tally.views / elapsed:.0f}/s   "
            f"{tally.returned} visitors came back",
            f"  cache: {percent(tally.hit_ratio())} hits, {tally.not_modified} not modified   "
            f"purchases gained over an equal split: {tally.purchases_gained():+.1f}",
            self._colour(f"  visitors with two variants, wrong pages, other faults: {tally.faults}",
                         "31;1" if tally.faults else "0")]
        if tally.released:
            lines.append(f"  pages without the variant of their visitor, after a kill: {tally.released}")
        return lines + [f"  {line}" for line in tally.fault_lines[-3:]]

    def results(self):
        """One line per variant of every experiment: visitors, buyers, rate and its interval."""
        lines = []
        for experiment in sorted({e for e, _ in self._tally.visitors}):
            for variant, count in variant_counts(self._tally, experiment).items():
                name = f"{experiment}/{variant}"
                lines.append(f"  {name:<24}" + result_line(self._tally, experiment, variant, count))
        return lines

    def _colour(self, text, code):
        return f"\033[{code}m{text}\033[0m" if self._coloured else text

    def _print(self, lines):
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()
