"""Edges that share a Redis: what every test in t/fleet stands on.

`Fleet(edges, url)` makes edges of one namespace with one key ring; what the store holds is read here with redis-py,
without the product's code.
"""
import json
import subprocess

from lib.edge import CTL, ZONE
from lib.edge import document as make_document

SPACE = "test"
KEYS = "5b" * 32 + "\n"
NOT_CTL = ("check",)


def store_line(url, options=""):
    return f"    experiment_store {url} namespace={SPACE} {options};\n    experiment_keys {{folder}}/keys;\n"


class Fleet:
    """`http` is the text inside http{} of each edge; `urls` may name another way to the store for each of them."""

    def __init__(self, edges, url, http, count=3, definitions=None, options="", urls=None, zone=ZONE, **more):
        self.url = url
        self.edges = []
        if definitions is not None:
            self.publish(definitions)
        for number in range(count):
            line = store_line((urls or {}).get(number, url), options)
            edge = edges(http, zone=zone + line, start=False, **more)
            (edge.folder / "keys").write_text(KEYS)
            edge.start()
            self.edges.append(edge)

    def __iter__(self):
        return iter(self.edges)

    def __getitem__(self, number):
        return self.edges[number]

    def ctl(self, *args, check=False, stdin=None):
        return ctl(self.url, *args, check=check, stdin=stdin)

    def publish(self, definitions, *args, check=True):
        text = definitions if isinstance(definitions, str) else json.dumps(definitions)
        return ctl(self.url, "publish", "-", *args, check=check, stdin=text)


def ctl(url, *args, check=False, stdin=None):
    done = subprocess.run([str(CTL), *args, "--store", url, "--namespace", SPACE], input=stdin, capture_output=True,
                          text=True, timeout=30)
    assert not check or done.returncode in (0, 3), done.stderr + done.stdout
    return done


def document(*experiments, **fields):
    return make_document(*experiments, **fields)


def runtime(client, key):
    """The runtime state of an experiment, as the store has it."""
    return json.loads(client.hget(f"{SPACE}:ctl", f"x:{key}"))


def stored(client, key):
    """{epoch id: vector} of the fleet's totals of the current generation."""
    generation = runtime(client, key)["generation"]
    fields = client.hgetall(f"{SPACE}:c:{key}:{generation}")
    return {int(name[2:]): [int(n) for n in value.split(b";")[1].split(b",")]
            for name, value in fields.items() if name.startswith(b"t:")}


def by_variant(client, key, column):
    """{variant: total} over all epochs; column 0: exposures, 1: the first goal. Goals are conversions."""
    state = runtime(client, key)
    names = ["@baseline", *state["arms"]]
    total = dict.fromkeys(names, 0)
    for epoch in state["epochs"]:
        vector = stored(client, key).get(epoch["id"], [])
        width = 1 + epoch["goals"]
        for row, name in enumerate(names):
            at = row * width + column
            total[name] += vector[at] if at < len(vector) else 0
    return {name: n for name, n in total.items() if n}
