"""Visitors who come all the time and know what they were answered: the truth that counters are compared with.

Every visitor is new, sees a page once or several times with the cookies it was given, and perhaps buys. Whom
an answer failed is gone for good, so what the edge may have counted is known within a page and a purchase.
"""
import collections
import random
import threading
import time

from lib import store
from lib.edge import ZONE
from lib.load import Connection, request

# A page says which variants it shows. "visit" has visitors with cookies, "button" accounts.
SERVER = """
    server {
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        location / {
            experiment all; return 200 "$variant_visit|$variant_button|$pid|$experiment_reason_visit";
        }
        location = /thanks {
            experiment all; experiment_reward purchase;
            return 200 "$variant_visit|$variant_button|$pid|$experiment_reason_visit";
        }
        location = /metrics { experiment_metrics; }
    }
"""
EXPERIMENTS = ("visit", "button")


def roomy(soak=False):
    """A zone with a filter so large that it takes no visitor for another one: counts are then exact."""
    filter_mib = 128 if soak else 16
    return {"zone": ZONE.replace("state=", f"filter={filter_mib}m state="), "size": f"{filter_mib + 8}m",
            "level": "notice"}


class Line(Connection):
    """A connection that says by an OSError that it was closed or reset."""

    def more(self):
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError("closed without an answer")
        self.buffer += data


class Crowd:
    """`clients` open a connection per request, `kept` keep theirs; after a visit they wait for `pause_s`.

    Counts stand in exposed, rewarded and served, by (experiment, variant). `failed` says what was asked in
    vain, `reused` how often a kept connection was gone when it was used again, which every client of nginx
    meets at a reload and answers by a new one.
    """

    def __init__(self, port, clients=2, kept=0, seed=1, pause_s=0.005):
        self.port, self.pause_s = port, pause_s
        self.stopping, self.lock = threading.Event(), threading.Lock()
        self.exposed, self.rewarded, self.served = (collections.Counter() for _ in range(3))
        self.wrong, self.failed, self.pids, self.reused, self.answers = [], [], set(), 0, 0
        self.threads = [threading.Thread(target=self.run, args=(seed * 1000 + n, n >= clients))
                        for n in range(clients + kept)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Returns when the last one has been answered."""
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def run(self, seed, kept):
        chance, line, number = random.Random(seed), None, 0
        while not self.stopping.is_set():
            number += 1
            line = self.visit(f"unit-{seed}-{number}", chance, line, kept)
            time.sleep(self.pause_s)
        if line:
            line.close()

    def visit(self, account, chance, line, kept):
        cookies, first = {}, None
        for path in ["/"] * chance.choice((1, 1, 2, 3)) + ["/thanks"] * (chance.random() < 0.3):
            headers = {"X-Account": account, "Connection": "keep-alive" if kept else "close"}
            asked = request(path, cookies, headers)
            try:
                line, answer = self.exchange(asked, line, kept)
            except OSError as error:
                with self.lock:
                    kind = "page" if first is None else "purchase" if path == "/thanks" else "again"
                    self.failed.append((kind, repr(error)))
                return None
            cookies.update(answer.cookies)
            self.note(account, path, answer, first)
            first = first or answer.text.split("|")[:2]
        return line

    def exchange(self, asked, line, kept):
        used = line is not None
        try:
            line = line or Line(self.port)
            line.send(asked)
            answer = line.receive()
        except OSError:
            if line:
                line.close()
            if not (used and line.buffer == b""):
                raise
            with self.lock:
                self.reused += 1
            return self.exchange(asked, None, kept)
        if not kept or answer.header("Connection") == "close":
            line.close()
            line = None
        return line, answer

    def note(self, account, path, answer, first):
        *told, pid, reason = answer.text.split("|")
        with self.lock:
            self.answers += 1
            self.pids.add(int(pid))
            if answer.status != 200 or first not in (None, told) or "" in told:
                self.wrong.append((account, path, answer.status, first, told, reason))
            for key in zip(EXPERIMENTS, told):
                self.served[key] += 1
                self.exposed[key] += first is None
                self.rewarded[key] += path == "/thanks"

    def failures(self, *kinds):
        return sum(kind in kinds for kind, _ in self.failed)


def by_variant(metrics, family, experiments=EXPERIMENTS):
    """{(experiment, variant): value} of a family, without those that are nobody's."""
    counted = collections.Counter()
    for name, value in metrics.items():
        if name.startswith(f"nginx_experiment_{family}{{") and value:
            pairs = name.partition("{")[2].rstrip("}").replace('"', "").split(",")
            labels = dict(pair.split("=") for pair in pairs)
            if labels["experiment"] in experiments:
                counted[labels["experiment"], labels.get("variant")] += int(value)
    return counted


def stored(edge, column, experiments=EXPERIMENTS):
    """The same of the state directory; `column` is "n" or a goal. Stop the edge first."""
    counted = collections.Counter()
    for experiment in experiments:
        for variant, row in store.totals(edge, experiment).items():
            value = row[column] if column == "n" else row[column][0]
            if value:
                counted[experiment, variant] += value
    return counted


def total(counters, what):
    """The sum over several crowds."""
    return sum((getattr(crowd, what) for crowd in counters), collections.Counter())


def assert_counted(edge, *crowds):
    """That metrics and then the store say what the crowds were answered, exactly. Ends the edge."""
    exposed, rewarded, served = (total(crowds, what) for what in ("exposed", "rewarded", "served"))
    # A request is logged when its answer has left.
    edge.wait(lambda: by_variant(edge.metrics(), "requests_total").total() >= served.total())
    metrics = edge.metrics()
    assert by_variant(metrics, "requests_total") == served
    assert by_variant(metrics, "exposures_total") == exposed
    assert by_variant(metrics, "rewards_total") == rewarded
    edge.stop()
    assert_stored(edge, *crowds)


def assert_stored(edge, *crowds, experiments=EXPERIMENTS):
    only = lambda counter: {key: value for key, value in counter.items() if key[0] in experiments and value}
    assert stored(edge, "n", experiments) == only(total(crowds, "exposed"))
    assert stored(edge, "purchase", experiments) == only(total(crowds, "rewarded"))
