"""Prometheus' text format 0.0.4, read strictly."""
import collections
import re
import shutil
import subprocess

import pytest

BUCKETS = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"]
LABELS = {"experiment", "variant", "goal", "layer", "status", "cache_status", "guardrail", "stage", "reason",
          "owner", "le"}

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf'({NAME})(?:\{{(.*)\}})? (NaN|[+-]?Inf|[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?: -?\d+)?')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)')


def parse(text):
    """{family: (type, {(name, ((label, value), ...)): value})} of text format 0.0.4, or a failure."""
    assert text.endswith("\n"), "the last line ends too"
    families, current = {}, None
    for line in text[:-1].split("\n"):
        if helped := re.fullmatch(rf"# HELP ({NAME}) (.+)", line):
            assert helped[1] not in families, "one HELP, and samples in one piece"
            current, families[helped[1]] = helped[1], (None, {})
        elif typed := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge|histogram)", line):
            assert typed[1] == current and families[current] == (None, {}), "TYPE once, before the samples"
            families[current] = (typed[2], {})
        elif line.startswith("#"):
            assert line == "# EOF"
        else:
            name, labels, value = (SAMPLE.fullmatch(line) or pytest.fail(f"no sample: {line}")).groups()
            pairs = tuple(LABEL.findall(labels or ""))
            assert ",".join(f'{k}="{v}"' for k, v in pairs) == (labels or ""), line
            assert len({k for k, _ in pairs}) == len(pairs), line
            kind, samples = families[current]
            endings = ["_bucket", "_sum", "_count"] if kind == "histogram" else [""]
            assert name in [current + ending for ending in endings], line
            assert (name, pairs) not in samples, f"twice: {line}"
            samples[name, pairs] = float(value)
    return families


def check_form(families):
    """Names, types, labels; histograms that only rise and end at their count."""
    for family, (kind, samples) in families.items():
        assert family.startswith("nginx_experiment_") and kind is not None
        assert kind != "counter" or family.endswith("_total")
        assert kind != "histogram" or family.endswith("_seconds")
        for (_, labels), value in samples.items():
            assert value >= 0 and {k for k, _ in labels} <= LABELS
        if kind != "histogram":
            continue
        series = collections.defaultdict(list)
        for (name, labels), value in samples.items():
            if name.endswith("_bucket"):
                assert labels[-1][0] == "le"
                series[labels[:-1]].append((labels[-1][1], value))
        assert set(series) == {labels for name, labels in samples if name.endswith("_count")} != set()
        for labels, buckets in series.items():
            values = [value for _, value in buckets]
            assert [bound for bound, _ in buckets] == BUCKETS and values == sorted(values)
            assert values[-1] == samples[family + "_count", labels]
            assert samples[family + "_sum", labels] >= 0


def promtool(body):
    """Prometheus' own opinion, where it is installed."""
    if path := shutil.which("promtool"):
        done = subprocess.run([path, "check", "metrics"], input=body, capture_output=True)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()[:2000]
