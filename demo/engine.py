"""What the module says of itself while it runs, read from its metrics page.

The visitors never look here: their figures and the module's are counted apart, and the summary shows both.
"""
import asyncio
import re
from collections import Counter

from browser import Connections

SAMPLE = re.compile(r"^nginx_experiment_(\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')


class Engine:
    """The last known figures of one experiment; refresh() reads them again."""

    def __init__(self, admin_port, experiment):
        self.epoch = None           # number of the current epoch
        self.document = None        # version of the definitions in use
        self.false_positives = 0.0  # chance that a visitor is taken for one who was counted before
        self.p_best = {}            # variant: probability of being the best; empty before the first posterior
        self.exposures = 0          # visitors counted, the baseline's included
        self.rewards = 0
        self.killed = 0             # requests of any experiment whose visitor had its variant taken away
        self._experiment = experiment
        self._connections = Connections(admin_port, 1)

    async def refresh(self):
        """Keeps the last figures where the page cannot be read."""
        try:
            response = await self._connections.get("/metrics")
        except (OSError, asyncio.IncompleteReadError):
            return
        self._take(response.body.decode())

    def _take(self, page):
        by_variant = {}
        self.killed = 0
        for name, text, value in SAMPLE.findall(page):
            labels = dict(LABEL.findall(text))
            if name == "document_version":
                self.document = int(value)
            if name == "filter_false_positive_ratio":
                self.false_positives = float(value)
            if labels.get("reason") == "killed":
                self.killed += int(value)
            if labels.get("experiment") == self._experiment:
                by_variant.setdefault(name, Counter())[labels.get("variant")] += float(value)
        self.epoch = int(by_variant["epoch"][None]) if "epoch" in by_variant else self.epoch
        p_best = by_variant.get("best_ratio", Counter())
        self.p_best = p_best if any(p_best.values()) else {}
        self.exposures = int(sum(by_variant.get("exposures_total", Counter()).values()))
        self.rewards = int(sum(by_variant.get("rewards_total", Counter()).values()))
