"""experimentctl as people and scripts see it, and a state directory without nginx.

Set EXPERIMENTCTL to the binary; build/experimentctl is the default.
"""

import json
import os
import pathlib
import subprocess

import xxhash

BINARY = pathlib.Path(os.environ.get("EXPERIMENTCTL", "build/experimentctl")).absolute()
OK, REFUSED, USAGE, NOTHING, UNREACHABLE, CONFLICT = range(6)
VERBS = ["check", "publish", "history", "list", "status", "audit", "start", "freeze", "stop", "archive"]
VERBS += ["conclude", "reset", "kill", "resume", "keygen", "doctor"]

DOCUMENT = {
    "schema": 1,
    "experiments": [
        {
            "key": "checkout",
            "desired": "running",
            "variants": [{"key": "control"}, {"key": "green"}],
            "goals": [
                {"key": "purchase", "kind": "conversion"},
                {"key": "revenue", "kind": "value", "per": "first", "max": 500, "currency": "EUR"},
            ],
        },
        {"key": "flag", "desired": "draft", "variants": [{"key": "on"}]},
    ],
}


def seal(state):
    """The envelope of shared/checked_json.h, written independently of it."""
    text = json.dumps(state, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    checksum = xxhash.xxh3_64_hexdigest(text.encode())
    return '{"format":1,"checksum":"%s","state":%s}\n' % (checksum, text)


def unseal(path):
    envelope = json.loads(path.read_text())
    assert path.read_text() == seal(envelope["state"]), "the checksum covers the state's bytes"
    return envelope["state"]


def run(*arguments, stdin=""):
    command = [BINARY, *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30)


def change_runtime(state, change):
    path = state / "runtime.json"
    runtime = unseal(path)
    change(runtime)
    runtime["version"] += 1
    path.write_text(seal(runtime))


def runtime(state):
    return unseal(state / "runtime.json")


def reports(state, instance, **report):
    """An edge that reports; `age` seconds ago."""
    age = report.pop("age", 0)
    folder = state / "edges"
    folder.mkdir(exist_ok=True)
    path = folder / f"{instance * 22}.json"
    path.write_text(json.dumps(report))
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    return path


def audit(state):
    """What is on record, oldest first: (verb, target, reason, detail)."""
    path = state / "audit.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for entry in entries:
        assert entry["by"].startswith("experimentctl (user ") and entry["at_s"] > 1_700_000_000
    return [(e["verb"], e["target"], e["reason"], e["detail"]) for e in entries]


def experiment(key, *variants, **members):
    """One of a document: variants are keys, or (key, weight)."""
    listed = [{"key": v} if isinstance(v, str) else {"key": v[0], "weight": v[1]} for v in variants]
    return {"key": key, "desired": "running", "variants": listed, **members}


def document(*experiments, **members):
    return json.dumps({"schema": 1, **members, "experiments": experiments}, indent=2) + "\n"


def signature(*parts):
    return xxhash.xxh3_64_hexdigest("".join(part + "\0" for part in parts).encode())


def has_run(state, key, quotas, generation=1, goals=()):
    """As a node would have made it: one epoch with these quotas, of conversion goals and no baseline."""
    runs = ",".join(f"{arm}*{slots}" for arm, slots in enumerate(quotas.values()))
    epoch = {"id": 1 << 20, "started_ms": 1, "ended_ms": 0, "sealed": False, "quotas": list(quotas.values()),
             "goals": len(goals)}
    change_runtime(state, lambda r: r["experiments"][key].update(
        generation=generation, generation_signature=signature(key, "", list(quotas)[0], "0.000000"),
        revision_signature=signature(*(part for arm in quotas for part in (arm, ""))),
        arms=list(quotas), epochs=[epoch], runs=runs, started_ms=1,
        goals=[{"key": goal, "kind": "conversion", "per": "first", "scale": 2, "max": 0} for goal in goals]))
