"""What the module says of itself while it runs: the current epoch and each variant's probability of being the best."""
import asyncio
import re

from browser import Connections

SAMPLE = re.compile(r'^(nginx_experiment_\w+)\{([^}]*)\} (\S+)', re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')


class Engine:
    def __init__(self, admin_port, experiment):
        self.epoch = "-"
        self.p_best = {}  # variant: probability; empty until the first posterior
        self._experiment = experiment
        self._connections = Connections(admin_port, 1)

    async def refresh(self):
        try:
            response = await self._connections.get("/metrics")
        except (OSError, asyncio.IncompleteReadError):
            return  # the last figures stay on the screen
        for name, text, value in SAMPLE.findall(response.body.decode()):
            labels = dict(LABEL.findall(text))
            if labels.get("experiment") != self._experiment:
                continue
            if name == "nginx_experiment_best_probability_ratio":
                self.p_best[labels["variant"]] = float(value)
            elif name == "nginx_experiment_epoch":
                self.epoch = int(float(value))
