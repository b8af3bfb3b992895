"""conf-examples/fleet as it stands, but for ports, addresses and paths: real servers, sentinels and a cluster with TLS and
users, edges, and experimentctl as the operator."""
import json
import re
import subprocess
import time

import pytest
import redis
from lib.authority import Authority
from lib.client import Browser, assignments
from lib.edge import CTL, document, experiment, free_port
from lib.examples import EXAMPLES, directives, move, start
from lib.redis_server import RedisServer
from lib.redis_topologies import wait

FOLDER = EXAMPLES / "fleet"
BUTTON = "checkout-button"


def text(name):
    return (FOLDER / name).read_text()


def password_of(user):
    return re.search(rf"^user {user} .*>(\S+)", text("users.acl"), re.M)[1]


class Example(RedisServer):
    """A server of one of the example's files. `site`: where its certificates are."""

    def __init__(self, site, conf, moves=None, arguments=(), user="admin"):
        super().__init__(start=False, arguments=arguments)
        self.site, self.user = site, user
        self.port = self.tls_port = free_bus_port()
        moves = {**(moves or {}), "/etc/redis/tls/ca.crt": site.ca, "/etc/redis/tls/redis.crt": site.certificate,
                 "/etc/redis/tls/redis.key": site.key, "/etc/redis/users.acl": self.folder / "users.acl",
                 "/etc/redis/redis.conf": self.folder / "base.conf", "/var/lib/redis": self.folder,
                 "tls-port 6379": f"tls-port {self.port}", "tls-port 26379": f"tls-port {self.port}",
                 "10.0.0.11": "127.0.0.1", "10.0.0.21": "127.0.0.1"}
        (self.folder / "users.acl").write_text(text("users.acl"))
        (self.folder / "base.conf").write_text(move(text("redis.conf"), moves))
        self.conf.write_text(move(text(conf), moves))
        assert not re.search(r"\s(/(etc|var)/|10\.)", directives(self.conf.read_text()))
        self.start(reconfigure=False)

    def client(self, user=None, **options):
        user = user or self.user
        return redis.Redis("127.0.0.1", self.port, ssl=True, ssl_ca_certs=str(self.site.ca), username=user,
                           password=password_of(user), **options)


def free_bus_port():
    """The bus of a cluster is 10000 higher."""
    while True:
        port = free_port()
        if port < 55000:
            return port


class Site:
    """What the example calls redis.internal and its files, in a folder."""

    def __init__(self, edges, backend, folder):
        self.edges, self.backend = edges, backend
        authority = Authority(folder)
        self.ca = authority.ca
        # Of servers that connect to each other, too.
        self.certificate, self.key = authority.issue(
            "server", "subjectAltName=DNS:redis.internal,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n", 30)
        self.folder, self.servers = folder, []
        for user in ("edge", "operator"):
            (folder / f"{user}.password").write_text(password_of(f"experiment-{user}") + "\n")
            (folder / f"{user}.password").chmod(0o600)
        (folder / "keys").write_text("5c" * 32 + "\n")

    def server(self, conf="redis.conf", **more):
        self.servers.append(Example(self, conf, **more))
        return self.servers[-1]

    def master_and_replicas(self, replicas):
        """A master that takes writes, and its replicas."""
        master = self.server()
        for _ in range(replicas):
            self.server(arguments=["--replicaof", "127.0.0.1", str(master.port)])
        wait(lambda: master.client().info("replication")["min_slaves_good_slaves"] >= replicas)
        return master

    def edge(self, moves, scheme="rediss"):
        """One with the nginx.conf; `scheme`: which of its experiment_store lines, the others are comments."""
        conf = text("nginx.conf")
        if scheme != "rediss":
            active = re.search(r"^    experiment_store rediss:[^;]*;\n", conf, re.M)[0]
            conf = conf.replace(active, "").replace(f"# experiment_store {scheme}:", f"experiment_store {scheme}:")
        assert len(re.findall(r"^ *experiment_store ", conf, re.M)) == 1
        moves = {**moves, "127.0.0.1:8080": self.backend.address,
                 "/etc/nginx/experiment.password": self.folder / "edge.password",
                 "/etc/nginx/redis-ca.crt": self.ca, "/etc/nginx/experiment.keys": self.folder / "keys"}
        return start(self.edges("", None, self.backend, start=False), conf, moves)

    def ctl(self, url, *args, stdin=None):
        """experimentctl as the operator."""
        done = subprocess.run([str(CTL), *args, "--store", url, "--user", "experiment-operator",
                               "--password-file", str(self.folder / "operator.password"), "--ca", str(self.ca),
                               "--server-name", "redis.internal"],
                              input=stdin, capture_output=True, text=True, timeout=60)
        return done

    def publish(self, url):
        loaded = self.ctl(url, "doctor", "--load")
        assert loaded.returncode in (0, 1), loaded.stderr
        done = self.ctl(url, "publish", str(FOLDER / "definitions.json"))
        assert done.returncode == 0, done.stdout + done.stderr

    def counted(self, url):
        """(exposures, purchases) of the whole fleet, by `status`; None while it cannot say."""
        done = self.ctl(url, "status", BUTTON, "--json")
        if done.returncode != 0:
            return None
        (told,) = json.loads(done.stdout)["experiments"]
        rows = [*told["variants"], told["baseline"]]
        return (sum(row["exposures"] for row in rows),
                sum(row["goals"].get("purchase", {}).get("rewarded", 0) for row in rows))


@pytest.fixture
def site(edges, backend, folder):
    backend.reset()
    made = Site(edges, backend, folder)
    yield made
    for server in made.servers:
        server.end()


def variant_at(browser):
    return assignments(json.loads(browser.go("/").text)["assignments"]).get(BUTTON)


def ready(edges, seconds=20):
    """Until both workers of each have a plan, as far as newcomers can tell. Returns how many of these were enrolled."""
    enrolled = 0
    for edge in edges:
        in_a_row, end = 0, time.monotonic() + seconds
        while in_a_row < 8:
            served = bool(variant_at(Browser(edge.port)))
            enrolled += served
            in_a_row = in_a_row + 1 if served else 0
            assert time.monotonic() < end, edge.text()
            time.sleep(0.02)
    return enrolled


def visit(edges, count):
    """Newcomers at each edge who come back through the next one, and see the same; every fifth buys there.
    Returns how many came and how many bought."""
    bought = 0
    for number in range(count):
        browser = Browser(edges[number % len(edges)].port)
        first = variant_at(browser)
        browser.port = edges[(number + 1) % len(edges)].port
        assert first and variant_at(browser) == first
        if number % 5 == 0:
            browser.go("/thanks")
            bought += 1
    return count, bought


def assert_counts(site, url, edges, count=60, before=(0, 0), scouts=0):
    """They arrive in the store, each once. Returns the totals."""
    came, bought = visit(edges, count)
    want = (before[0] + scouts + came, before[1] + bought)
    try:
        wait(lambda: site.counted(url) == want, seconds=20, step=0.5)
    except AssertionError:
        raise AssertionError((site.counted(url), want)) from None
    return want


def denials(server):
    """What the server refused, but to doctor, who asks whether it may too much."""
    return [entry for entry in server.client().acl_log() if entry["object"] != "config|get"]


def test_two_edges_at_a_server(site):
    master = site.master_and_replicas(1)
    url = f"rediss://127.0.0.1:{master.port}"
    site.publish(url)
    edges = [site.edge({"redis.internal:6379": f"127.0.0.1:{master.port}"}) for _ in range(2)]
    scouts = ready(edges)
    assert_counts(site, url, edges, scouts=scouts)
    for words in (["list"], ["status"], ["history"], ["audit"], ["kill", f"{BUTTON}/orange", "--reason", "test"],
                  ["resume", f"{BUTTON}/orange", "--reason", "test"], ["stop", BUTTON], ["start", BUTTON],
                  ["reset", BUTTON, "--reason", "test"]):
        done = site.ctl(url, *words)
        assert done.returncode == 0, (words, done.stdout + done.stderr)
    assert denials(master) == []
    # Edges tell every 15 s what they have applied.
    wait(lambda: site.ctl(url, "doctor").stdout == f"{url}: nothing to change\n", seconds=30, step=1)


REFUSED = (["FLUSHALL"], ["CONFIG", "GET", "*"], ["KEYS", "*"], ["GET", "experiment:ctl"], ["FUNCTION", "DELETE", "experiment"],
           ["FUNCTION", "LOAD", "REPLACE", "#!lua name=experiment\n"], ["EVAL", "return 1", 0], ["ACL", "LIST"],
           ["SCRIPT", "FLUSH"], ["HGETALL", "other:ctl"], ["SUBSCRIBE", "other:push"], ["DEL", "experiment:ctl"], ["SHUTDOWN"])


def test_an_edge_may_do_nothing_else(site):
    server = site.server()
    for words in REFUSED:
        with pytest.raises(redis.exceptions.NoPermissionError):
            server.client(user="experiment-edge").execute_command(*words)
    with pytest.raises(redis.AuthenticationError):
        redis.Redis("127.0.0.1", server.port, ssl=True, ssl_ca_certs=str(site.ca)).ping()


def test_sentinels_make_another_master(site):
    master = site.master_and_replicas(2)
    sentinels = [site.server("sentinel.conf", arguments=["--sentinel"], user="sentinel",
                             moves={"10.0.0.11 6379": f"127.0.0.1 {master.port}"}) for _ in range(3)]
    ask = lambda *words: sentinels[0].client().execute_command("SENTINEL", *words)
    wait(lambda: ask("CKQUORUM", "experiments"))
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
    url = f"rediss+sentinel://{hosts}/experiments"
    wait(lambda: len(ask("REPLICAS", "experiments")) == 2)
    site.publish(url)
    edges = [site.edge({"10.0.0.21,10.0.0.22,10.0.0.23": hosts}, "rediss+sentinel") for _ in range(2)]
    scouts = ready(edges)
    before = assert_counts(site, url, edges, scouts=scouts)
    master.kill()
    came, bought = visit(edges, 30)
    wait(lambda: site.counted(url), seconds=30, step=0.5)
    assert_counts(site, url, edges, before=(before[0] + came, before[1] + bought))
    done = site.ctl(url, "publish", "-", stdin=json.dumps(document(experiment(BUTTON, ("control", "blue")))))
    assert done.returncode in (0, 3), done.stderr
    for edge in edges:
        edge.wait(lambda: variant_at(Browser(edge.port)) == "blue", seconds=15)


def test_three_masters_of_a_cluster(site):
    masters = [site.server("cluster.conf") for _ in range(3)]
    command = re.search(r"(redis-cli (?:[^\n]*\\\n)?[^\n]*--cluster create[^\n]*)", text("cluster.conf"))[1]
    words = move(command.replace("\\\n", " ").replace("#", " "),
                 {"/etc/redis/tls/ca.crt": site.ca, "--askpass": f"--pass {password_of('admin')}",
                  **{f"10.0.0.1{n + 1}:6379": f"127.0.0.1:{server.port}" for n, server in enumerate(masters)}}).split()
    done = subprocess.run([*words, "--cluster-yes"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    wait(lambda: all(b"cluster_state:ok" in server.client().execute_command("CLUSTER", "INFO", NEVER_DECODE=True)
                     for server in masters))
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in masters)
    url = f"rediss+cluster://{hosts}"
    site.publish(url)
    edges = [site.edge({"10.0.0.11,10.0.0.12,10.0.0.13": hosts}, "rediss+cluster") for _ in range(2)]
    scouts = ready(edges)
    assert_counts(site, url, edges, scouts=scouts)
    assert [denials(server) for server in masters] == [[], [], []]
