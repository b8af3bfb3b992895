"""What happens to a store, and an edge that is watched meanwhile.

    with site.crowd():                # visitors, and the truth about them
        with FAULTS["hanging"](site):
            time.sleep(2)
    site.recover(since, 10, owed)     # until the store has what it was owed, and news reach every worker
    site.settle(10)                   # until what stands there is the truth

Each fault is a context: it begins, lasts, and has been lifted when the block has ended.
"""
import contextlib
import pathlib
import random
import re
import threading
import time

from lib.client import get
from lib.crowd import EXPERIMENTS, SERVER, Crowd, roomy, total
from lib.edge import document, experiment
from lib.fault_proxy import Cut, FaultProxy, whole
from lib.fleet import SPACE, Fleet, by_variant, runtime
from lib.redis_server import RedisServer

CONF = SERVER.replace("location = /metrics", """location = /news {
            experiment news; return 200 "$pid $variant_news";
        }
        location = /metrics""")
SECRET, OTHER_SECRET = "geheim", "anders"
BANDIT = {"policy": "thompson", "goal": "purchase", "min_epoch": "1s", "baseline": 0,
          "warm_up": {"exposures": 10, "successes": 0, "for": "0s"}}
CONTROL, INDEX, REPORTS = (f"{SPACE}:{name}" for name in ("ctl", "index", "edges"))
TROUBLE = re.compile(r"^(\S+ \S+) \[(?:error|crit)\] \S+ (.*)")


class Site:
    """One edge and its Redis; a proxy in between does `fault` to what the server says."""

    def __init__(self, edges, soak=False, **more):
        self.server = RedisServer(user=[f"edge on >{SECRET} ~* &* +@all", "default on nopass ~* &* +@all"])
        self.proxy = FaultProxy(self.server.port)
        self.proxy.fault = lambda flow, data: self.fault(flow, data)
        self.fault, self.edition, self.crowds = whole, 0, []
        self.pause_s = 0.05 if soak else 0.005  # of many thousand visitors the filter takes one for another
        password = self.server.folder / "password"
        password.write_text(SECRET)
        self.fleet = Fleet(edges, f"redis://{self.server.address}", CONF, count=1,
                           definitions=self.definitions(), urls={0: f"redis://{self.proxy.address}"},
                           options=f"user=edge password_file={password}", **roomy(soak), **more)
        self.edge = self.fleet[0]

    def end(self):
        self.proxy.end()
        self.server.end()

    @property
    def db(self):
        return self.server.client()

    def definitions(self):
        """A bandit, a fixed experiment, and news: what an edge shows of it says which edition it has."""
        return document(experiment("visit", allocation=BANDIT), experiment("button", unit="account"),
                        experiment("news", (f"n{self.edition}",), unit="account", goals=[]))

    # --- what is true, and what the store has of it ---
    @contextlib.contextmanager
    def crowd(self):
        with Crowd(self.edge.port, clients=1, kept=1, seed=1 + len(self.crowds), pause_s=self.pause_s) as crowd:
            self.crowds.append(crowd)
            yield crowd

    def truth(self):
        return [+total(self.crowds, what) for what in ("exposed", "rewarded")]

    def told(self):
        with self.db as db:
            return [{(key, variant): n for key in EXPERIMENTS
                     for variant, n in by_variant(db, key, column).items()} for column in (0, 1)]

    # --- recovery ---
    def recover(self, since, seconds, owed):
        """Returns how long it took since the store was back until a publication was on every worker, and until
        the store had what it was owed.
        """
        end = since + seconds
        self.wait(end, lambda: self.db.hexists(CONTROL, "d"), "definitions are there")
        self.publish()
        self.wait(end, self.news_everywhere, "every worker has the news")
        news = time.monotonic() - since
        self.wait(end, lambda: all(told.get(key, 0) >= n for told, due in zip(self.told(), owed)
                                   for key, n in due.items()), "the store has what it was owed")
        return news, time.monotonic() - since

    def settle(self, seconds):
        self.wait(time.monotonic() + seconds, lambda: self.told() == self.truth(), "totals are exact")

    def wait(self, end, holds, what):
        while True:
            with contextlib.suppress(TypeError):  # the state of an experiment is not there yet
                if holds():
                    return
            assert time.monotonic() < end, "\n".join(
                map(str, (f"in vain: {what}", self.truth(), *self.edge.text().splitlines()[-20:])))
            time.sleep(0.01)

    def publish(self):
        self.edition += 1
        self.fleet.publish(self.definitions())

    def news_everywhere(self):
        left = set(self.edge.all_workers())
        for _ in range(40):
            pid, edition = get(self.edge.port, "/news", {"X-Account": "reader"}).text.split(" ")
            if edition != f"n{self.edition}":
                return False
            left.discard(int(pid))
            if not left:
                return True
        return False

    # --- what it costs ---
    def resident_kb(self):
        told = [pathlib.Path(f"/proc/{pid}/status").read_text() for pid in self.edge.all_workers()]
        return sum(int(re.search(r"RssAnon:\s+(\d+)", status).group(1)) for status in told)

    def causes(self, begin):
        """{line without its numbers: unix times} of what the log says from character `begin` on."""
        found = {}
        for line in self.edge.text()[begin:].splitlines():
            if match := TROUBLE.match(line):
                at = time.mktime(time.strptime(match.group(1), "%Y/%m/%d %H:%M:%S"))
                found.setdefault(re.sub(r"\d+", "N", match.group(2)), []).append(at)
        return found


# --- servers ---
@contextlib.contextmanager
def killed(site):
    site.server.kill()
    yield
    site.server.start()  # empty


@contextlib.contextmanager
def hanging(site):
    site.server.pause()
    yield
    site.server.resume()


@contextlib.contextmanager
def refusing(site):
    with site.db as db:
        db.execute_command("ACL", "SETUSER", "edge", "resetpass", f">{OTHER_SECRET}")
        db.execute_command("CLIENT", "KILL", "USER", "edge")
        yield
        db.execute_command("ACL", "SETUSER", "edge", "resetpass", f">{SECRET}")


@contextlib.contextmanager
def full(site):
    with site.db as db:
        db.config_set("maxmemory", db.info("memory")["used_memory"] // 2)
        yield
        db.config_set("maxmemory", 0)


@contextlib.contextmanager
def without_replicas(site):
    with site.db as db:
        db.config_set("min-replicas-to-write", 1)
        yield
        db.config_set("min-replicas-to-write", 0)


def counter_keys(db):
    return [f"{SPACE}:c:{key}:{runtime(db, key)['generation']}" for key in EXPERIMENTS]


@contextlib.contextmanager
def wrong_types(site):
    with site.db as db:
        keys = [CONTROL, INDEX, REPORTS, *counter_keys(db)]
        for key in keys:
            db.set(key, "of another type")
        yield
        db.delete(*keys)


@contextlib.contextmanager
def one_wrong_type(site):
    with site.db as db:
        (key, *_) = counter_keys(db)
        db.set(key, "of another type")
        yield
        db.delete(key)


@contextlib.contextmanager
def forgetting(site):
    with site.db as db:
        db.flushall()
        yield
        db.flushall()


# --- ways ---
def on_the_way(harm, anew=True):
    """A fault of the way; `anew`: it befalls connections that are made from now on."""
    @contextlib.contextmanager
    def fault(site):
        lifted = threading.Event()
        site.fault = lambda flow, data: harm(flow, data, lifted)
        if anew:
            site.proxy.drop()
        yield
        site.fault = whole
        lifted.set()
    return fault


def slow(flow, data, lifted):
    lifted.wait(5)
    flow.give(data)


chance = random.Random(1)


def garbage(flow, data, lifted):
    flow.give(chance.randbytes(300))


def later_garbage(flow, data, lifted):
    """In the midst of what follows the greeting."""
    flow.give(data if flow.passed < 10 else data[:len(data) // 2] + chance.randbytes(300))


def gigantic(flow, data, lifted):
    flow.give(data if flow.passed < 10 else b"$8589934592\r\n" + bytes(65536))


def endless(flow, data, lifted):
    if flow.passed < 10:
        return flow.give(data)
    flow.give(b"*100000\r\n")
    while not lifted.is_set():
        flow.give(b"$65536\r\n" + bytes(65536) + b"\r\n")
    raise Cut


FAULTS = {
    "killed": killed,
    "hanging": hanging,
    "slow": on_the_way(slow, anew=False),
    "refusing": refusing,
    "full": full,
    "without_replicas": without_replicas,
    "garbage": on_the_way(garbage),
    "later_garbage": on_the_way(later_garbage),
    "gigantic": on_the_way(gigantic),
    "endless": on_the_way(endless),
    "wrong_types": wrong_types,
    "one_wrong_type": one_wrong_type,
    "forgetting": forgetting,
}
