"""Assignment from its specification alone: pure Python and the xxhash package, sharing nothing with the C++.

Shares are exact fractions here, so that thresholds need no argument about rounding; weights are floats, since quotas are specified in
IEEE double. A table is a list of SLOTS arm numbers.
"""
import math
from fractions import Fraction

import xxhash

SLOTS = 10000
TWO64 = 1 << 64


def unit_hash(unit):
    return xxhash.xxh3_64_intdigest(unit.encode("utf-8"))


def seed_of(salt, purpose):
    return xxhash.xxh3_64_intdigest(salt.encode("utf-8") + b"\0" + purpose.encode("utf-8"))


def draw(seed, unit):
    return xxhash.xxh3_64_intdigest(unit.to_bytes(8, "little"), seed=seed)


def slot(h):
    return h * SLOTS >> 64


def below(h, share):
    """h < share * 2^64, in exact arithmetic."""
    return h < Fraction(share) * TWO64


def quotas_of(weights):
    if not weights or any(not math.isfinite(w) or w < 0 for w in weights):
        return None
    total = 0.0
    for weight in weights:  # left to right: sum() compensates in newer Pythons
        total += weight
    if total <= 0 or not math.isfinite(total):
        return None
    exact = [weight / total * SLOTS for weight in weights]
    quotas = [math.floor(q) for q in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(exact[i] - quotas[i]), i))
    for i in by_remainder[:SLOTS - sum(quotas)]:
        quotas[i] += 1
    return quotas


def first_table(quotas):
    return [arm for arm, quota in enumerate(quotas) for _ in range(quota)]


def moved_table(before, quotas):
    """Each arm keeps its lowest slots up to its new quota; whoever grows is served from the rest, ascending, in arm order."""
    kept = [0] * len(quotas)
    table = [None] * SLOTS
    for s, arm in enumerate(before):
        if arm < len(quotas) and kept[arm] < quotas[arm]:
            kept[arm] += 1
            table[s] = arm
    takers = iter([arm for arm, quota in enumerate(quotas) for _ in range(quota - kept[arm])])
    return [next(takers) if arm is None else arm for arm in table]


def encode_runs(table):
    runs = []
    for arm in table:
        if runs and runs[-1][0] == arm:
            runs[-1][1] += 1
        else:
            runs.append([arm, 1])
    return ",".join(f"{arm}*{length}" for arm, length in runs)


def decode_runs(text):
    return [int(arm) for run in text.split(",") for arm, length in [run.split("*")] for _ in range(int(length))]


def decide(document, key, table, unit):
    """Returns (reason, variant key or None) of a unit that nothing is remembered of."""
    experiment = next(e for e in document["experiments"] if e["key"] == key)
    salt = experiment.get("salt", key)
    variants = [v["key"] for v in experiment["variants"]]
    desired = experiment["desired"]
    u = unit_hash(unit)

    def drawn(salt, purpose):
        return draw(seed_of(salt, purpose), u)

    if desired == "draft":
        return "draft", None
    if desired in ("stopped", "archived"):
        return "stopped", None
    if desired == "concluded":  # the winner is the page now: only the holdback is kept out
        held_back = below(drawn(salt, "holdback"), experiment.get("holdback", 0))
        return ("holdback", None) if held_back else ("concluded", experiment["winner"])
    if below(drawn("", "holdout"), document.get("holdout", 0)):
        return "holdout", None
    if "layer" in experiment:
        layer = next(entry for entry in document["layers"] if entry["key"] == experiment["layer"])
        layer_salt = layer.get("salt", layer["key"])
        if below(drawn(layer_salt, "holdout"), layer.get("holdout", 0)):
            return "holdout", None
        begin, end = (math.floor(x * SLOTS + 0.5) for x in experiment.get("slice", [0, 1]))
        if not begin <= slot(drawn(layer_salt, "layer")) < end:
            return "layer", None
    if not below(drawn(salt, "traffic"), experiment.get("traffic", 1)):
        return "traffic", None
    if desired == "frozen":
        return "frozen", None
    if below(drawn(salt, "baseline"), experiment["allocation"]["baseline"]):
        return "baseline", experiment["control"]
    return "split", variants[table[slot(drawn(salt, "arm"))]]
