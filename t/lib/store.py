"""What the state directory says was counted, read without the product's code.

Totals reach it every few seconds, and when a worker ends: stop the edge first.
"""
import json


def columns_of(goals):
    """First column of each goal, and how many columns a row has; column 0 is n."""
    first, at = {}, 1
    for goal in goals:
        first[goal["key"]] = at
        at += 3 if goal["kind"] == "value" else 1
    return first, at


def counts(edge, key, generation=None):
    """{epoch id: rows}: row 0 is the baseline, 1 + a arm a; each is {"n": units, goal: [c] or [c, S, Q]}."""
    runtime = edge.runtime(key)
    generation = str(generation or runtime["generation"])
    kept = {}
    for path in sorted((edge.state / "counters").glob("*.json")):
        stored = json.loads(path.read_text())["state"]["counters"]
        for epoch, text in stored.get(key, {}).get(generation, {}).items():
            vector = [int(n) for n in text.split(",")]
            known = kept.setdefault(int(epoch), [0] * len(vector))
            kept[int(epoch)] = [a + b for a, b in zip(known, vector)]  # several instances
    rows = {}
    for epoch in runtime["epochs"]:
        if epoch["id"] not in kept:
            continue
        goals = runtime["goals"][:epoch["goals"]]
        first, width = columns_of(goals)
        vector = kept.pop(epoch["id"])
        assert len(vector) == width * (1 + len(epoch["quotas"]))
        rows[epoch["id"]] = [
            {"n": vector[at], **{g["key"]: vector[at + first[g["key"]]:][:3 if g["kind"] == "value" else 1]
                                 for g in goals}}
            for at in range(0, len(vector), width)]
    assert not kept, f"counts of epochs that the runtime does not have: {kept}"
    return rows


def totals(edge, key):
    """Sum of counts() over the epochs: {variant: {"n": units, goal: [...]}}, "@baseline" first."""
    names = ["@baseline"] + edge.runtime(key)["arms"]
    total = {}
    for rows in counts(edge, key).values():
        for name, row in zip(names, rows):
            into = total.setdefault(name, {"n": 0})
            into["n"] += row["n"]
            for goal, cells in row.items():
                if goal != "n":
                    into[goal] = [a + b for a, b in zip(into.get(goal, [0] * len(cells)), cells)]
    return total
