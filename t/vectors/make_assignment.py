#!/usr/bin/python3
"""Writes t/vectors/assignment.json: what every implementation of assignment has to reproduce.

Run from the repository root: /usr/bin/python3 t/vectors/make_assignment.py > t/vectors/assignment.json
64-bit numbers are 16 hexadecimal digits; doubles are written so that they read back as the same double.
"""
import json
import math
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "assignment"))
import assignment_reference as ref  # noqa: E402

SHARES = [0, 5e-324, 2.0**-64, 2.0**-63, 1e-9, 1e-4, 0.01, 0.05, 1 / 3, 0.5, 2 / 3, 0.1 + 0.2, 0.9999, 1 - 2.0**-53, 1]
WEIGHTS = [
    [1], [1, 1], [1, 1, 1], [2, 1, 1], [0.5, 0.25, 0.25], [0.1, 0.2, 0.3, 0.4], [0.01, 0.01, 0.49, 0.49], [0, 1], [1, 0, 1],
    [1] * 7, [1] * 20, [1e-4, 0.9999], [1, 9999], [1, 99999], [1e-300, 1e-300, 2e-300], [5e-324, 5e-324], [1e308, 1e307],
    [0.3, 0.3, 0.3, 0.1], [0.7, 0.1, 0.1, 0.1], [math.pi, math.e, math.sqrt(2)], [0, 0], [], [1, -1], [1e308, 1e308], [1] * 21,
]
BAD_RUNS = [
    (2, ""), (2, "0*10000,"), (2, ",0*10000"), (2, "0*9999"), (2, "0*10001"), (2, "0*5000,1*5001"), (2, "2*10000"), (2, "0*0,1*10000"),
    (2, "0*5000,0*5000"), (2, "00*10000"), (2, "0*010000"), (2, "+0*10000"), (2, "0*-1,1*10001"), (2, " 0*10000"), (2, "0*10000 "),
    (2, "0x10000"), (2, "0*"), (2, "*10000"), (2, "0"), (2, "0*5000 1*5000"), (2, "0*5000;1*5000"), (2, "0*99999999999999999999"),
    (2, "0*5000,1*4294972296"), (0, "0*10000"), (20, "20*10000"),
]


def hexed(h):
    return f"{h:016x}"


def hashes():
    units = ["", "0", "user-1", "10.0.0.1", "abcdefgh", "u" * 16, "u" * 17, "u" * 128, "u" * 129, "u" * 240, "u" * 256, "Zoë", "日本"]
    return [{"unit": u, "hash": hexed(ref.unit_hash(u))} for u in units]


def seeds():
    purposes = ["holdout", "layer", "traffic", "baseline", "arm", "holdback"]
    return [{"salt": s, "purpose": p, "seed": hexed(ref.seed_of(s, p))} for s in ("", "checkout-button", "a" * 40) for p in purposes]


def draws():
    rows = []
    for seed in (0, 1, 0x9E3779B185EBCA87, ref.TWO64 - 1, ref.seed_of("checkout-button", "arm")):
        for unit in (0, 1, ref.TWO64 - 1, 0x0123456789ABCDEF, ref.unit_hash("user-1")):
            h = ref.draw(seed, unit)
            rows.append({"seed": hexed(seed), "unit_hash": hexed(unit), "draw": hexed(h), "slot": ref.slot(h)})
    return rows


def slots():
    edges = {0, 1, ref.TWO64 - 1}
    for s in (1, 2, 3333, 4999, 5000, 5001, 6667, 9998, 9999):
        first = -(-s * ref.TWO64 // ref.SLOTS)  # the least h of the slot
        edges |= {first - 1, first}
    return [{"h": hexed(h), "slot": ref.slot(h)} for h in sorted(edges)]


def belows():
    rows = []
    for share in SHARES:
        edge = math.ceil(ref.Fraction(share) * ref.TWO64)
        for h in sorted({0, 1, edge - 1, edge, edge + 1, ref.TWO64 - 1}):
            if 0 <= h < ref.TWO64:
                rows.append({"share": share, "h": hexed(h), "below": ref.below(h, share)})
    return rows


def first_tables():
    all_quotas = [q for q in map(ref.quotas_of, WEIGHTS[:20]) if q]
    return [{"quotas": q, "runs": ref.encode_runs(ref.first_table(q))} for q in all_quotas]


def moved_tables():
    """Chains of changes: each table is made from the one before, so that later ones are not contiguous."""
    chains = [
        [[1, 1], [3, 1], [1, 3], [1, 1]],
        [[1, 1, 1], [0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [1, 1, 1]],
        [[1, 1, 1, 1], [0.1, 0.2, 0.3, 0.4]],
        [[0.01, 0.01, 0.49, 0.49], [0.49, 0.01, 0.01, 0.49]],
        [[1, 1], [1, 1, 1], [1, 1, 0, 1], [2, 1]],  # a new arm, one without weight, two that are gone
        [[1], [0, 1], [1, 0]],
    ]
    rng = random.Random(20240501)
    for arms in (5, 20):
        chains.append([[rng.random() for _ in range(arms)] for _ in range(4)])
    rows = []
    for chain in chains:
        table = ref.first_table(ref.quotas_of(chain[0]))
        for weights in chain[1:]:
            quotas = ref.quotas_of(weights)
            after = ref.moved_table(table, quotas)
            rows.append({"before": ref.encode_runs(table), "quotas": quotas, "after": ref.encode_runs(after)})
            table = after
    return rows


def experiment(key, desired, variants=("control", "green"), **fields):
    fields.setdefault("allocation", {"baseline": 0})
    return {"key": key, "desired": desired, "control": variants[0], "variants": [{"key": v} for v in variants], **fields}


def documents():
    three = ("control", "green", "blue")
    gated = {"layer": "checkout", "slice": [0.25, 0.75], "traffic": 0.5, "allocation": {"baseline": 0.2}, "salt": "2026-q1"}
    two_thirds = ref.moved_table(ref.first_table(ref.quotas_of([1, 1])), ref.quotas_of([1, 2]))
    even = ref.first_table(ref.quotas_of([1, 1]))
    moved = ref.moved_table(ref.first_table(ref.quotas_of([1, 1, 1])), ref.quotas_of([1, 5, 2]))
    layers = [{"key": "search"}, {"key": "checkout", "salt": "checkout-2", "holdout": 0.1}]
    shipped = {"winner": "green", "holdback": 0.1, "layer": "checkout", "slice": [0, 0.1], "traffic": 0.1}
    plain = {"experiments": [experiment("plain", "running"), experiment("other", "running")]}
    yield plain, "plain", even
    yield plain, "other", two_thirds
    for desired in ("draft", "stopped", "archived"):
        yield {"experiments": [experiment("off", desired)]}, "off", even
    for desired in ("running", "frozen"):
        yield {"holdout": 0.2, "layers": layers, "experiments": [experiment("gated", desired, three, **gated)]}, "gated", moved
    yield {"holdout": 0.5, "layers": layers, "experiments": [experiment("shipped", "concluded", **shipped)]}, "shipped", even
    halves = [experiment("left", "running", layer="search", slice=[0, 0.5]), experiment("right", "running", layer="search", slice=[0.5, 1])]
    for key in ("left", "right"):  # one layer: who is in one is not in the other
        yield {"layers": layers, "experiments": halves}, key, even


def decisions():
    rows = []
    for document, key, table in documents():
        units, found = [], {}
        for i in range(2000):  # up to three units of every outcome
            unit = f"unit-{i}"
            reason, variant = ref.decide(document, key, table, unit)
            found[reason, variant] = found.get((reason, variant), 0) + 1
            if found[reason, variant] <= 3:
                units.append({"unit": unit, "reason": reason, **({"variant": variant} if variant else {})})
        rows.append({"document": document, "experiment": key, "table": ref.encode_runs(table), "units": units})
    return rows


def vectors():
    return {
        "title": ["Assignment: hashes, seeds, draws, slots, shares, quotas, tables and whole decisions"],
        "unit_hash": hashes(),
        "seed_of": seeds(),
        "draw": draws(),
        "slot": slots(),
        "below": belows(),
        "quotas": [{"weights": w, "quotas": ref.quotas_of(w) if len(w) <= 20 else None} for w in WEIGHTS],
        "first_table": first_tables(),
        "moved_table": moved_tables(),
        "bad_runs": [{"arms": arms, "runs": runs} for arms, runs in BAD_RUNS],
        "decisions": decisions(),
    }


def text():
    """One row per line, so that a change shows as the rows that changed."""
    sections = []
    for name, rows in vectors().items():
        lines = ",\n  ".join(json.dumps(row, ensure_ascii=True) for row in rows)
        sections.append(f"{json.dumps(name)}: [\n  {lines}]")
    return "{" + ",\n ".join(sections) + "}\n"


if __name__ == "__main__":
    sys.stdout.write(text())
