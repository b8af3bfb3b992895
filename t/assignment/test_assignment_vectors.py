"""The vectors of assignment: that they are what the generator writes, what the specification says, and what movement promises."""
import importlib.util
import json
import math
import pathlib
import sys
from fractions import Fraction

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = HERE.parent / "vectors"
sys.path.insert(0, str(HERE))
import assignment_reference as ref  # noqa: E402


@pytest.fixture(scope="module")
def vectors():
    return json.loads((VECTORS / "assignment.json").read_text())


def test_generator_reproduces_the_file():
    spec = importlib.util.spec_from_file_location("make_assignment", VECTORS / "make_assignment.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert generator.text().encode() == (VECTORS / "assignment.json").read_bytes()


def test_library_is_the_published_xxh3():
    stats = json.loads((VECTORS / "stats_public.json").read_text())
    entry = next(e for e in stats["entries"] if e["id"] == "xxh3_slots")
    for row in entry["expected"]["vectors"]:
        h = xxhash.xxh3_64_intdigest(row["key"].encode(), seed=int(row["seed"]))
        assert f"{h:016x}" == row["xxh3_64"]
        assert ref.slot(h) == row["slot10000"]


def test_below_is_a_fraction_of_all_hashes(vectors):
    for row in vectors["below"]:
        assert row["below"] == (Fraction(int(row["h"], 16), 2**64) < Fraction(row["share"])), row


def test_slots_are_equal_parts_of_all_hashes(vectors):
    for row in vectors["slot"]:
        assert Fraction(row["slot"], 10000) <= Fraction(int(row["h"], 16), 2**64) < Fraction(row["slot"] + 1, 10000), row


def test_quotas_follow_the_weights(vectors):
    for row in vectors["quotas"]:
        if row["quotas"] is None:
            continue
        assert sum(row["quotas"]) == ref.SLOTS
        total = sum(map(Fraction, row["weights"]))
        for weight, quota in zip(row["weights"], row["quotas"]):
            assert abs(quota - Fraction(weight) / total * ref.SLOTS) < 1
            assert weight > 0 or quota == 0


def test_tables_follow_the_quotas(vectors):
    for row in vectors["first_table"]:
        table = ref.decode_runs(row["runs"])
        assert table == sorted(table)
        assert [table.count(arm) for arm in range(len(row["quotas"]))] == row["quotas"]
    for row in vectors["moved_table"]:
        check_movement(ref.decode_runs(row["before"]), row["quotas"], ref.decode_runs(row["after"]))


def test_decisions_cover_every_gate(vectors):
    reasons = {unit["reason"] for row in vectors["decisions"] for unit in row["units"]}
    assert reasons == {"draft", "stopped", "holdout", "layer", "traffic", "frozen", "baseline", "split", "concluded", "holdback"}
    for row in vectors["decisions"]:
        for unit in row["units"]:
            assert ("variant" in unit) == (unit["reason"] in ("split", "baseline", "concluded")), unit


def check_movement(before, quotas, after):
    """Architecture section 3: exact quotas, as few moves as any scheme can make, highest slots given up, ascending slots taken."""
    old = [before.count(arm) for arm in range(max(before) + 1)]
    new = quotas + [0] * (len(old) - len(quotas))
    old += [0] * (len(new) - len(old))
    assert [after.count(arm) for arm in range(len(new))] == new
    moved = [s for s in range(ref.SLOTS) if before[s] != after[s]]
    assert len(moved) == sum(max(0, n - o) for n, o in zip(new, old))
    for arm in range(len(new)):
        given = [s for s in moved if before[s] == arm]
        kept = [s for s in range(ref.SLOTS) if before[s] == after[s] == arm]
        assert not given or not kept or max(kept) < min(given)
    takers = [after[s] for s in moved]
    assert takers == sorted(takers)


positive = st.floats(min_value=1e-6, max_value=1, allow_nan=False)
weight_lists = st.lists(st.one_of(st.just(0.0), positive), min_size=1, max_size=20).filter(lambda w: sum(w) > 0)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(weight_lists)
def test_any_weights_give_exact_quotas(weights):
    quotas = ref.quotas_of(weights)
    assert sum(quotas) == ref.SLOTS
    total = math.fsum(weights)
    for weight, quota in zip(weights, quotas):
        assert abs(quota - weight / total * ref.SLOTS) < 1 + 1e-9
        assert weight > 0 or quota == 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(weight_lists, min_size=2, max_size=4))
def test_any_chain_of_changes_moves_the_least(chain):
    table = ref.first_table(ref.quotas_of(chain[0]))
    for weights in chain[1:]:
        quotas = ref.quotas_of(weights)
        after = ref.moved_table(table, quotas)
        check_movement(table, quotas, after)
        assert ref.decode_runs(ref.encode_runs(after)) == after
        assert ref.moved_table(after, quotas) == after
        table = after


@settings(max_examples=60, deadline=None, derandomize=True)
@given(weight_lists.filter(lambda w: len(w) < 20), positive)
def test_a_new_arm_takes_only_for_itself(weights, weight):
    """Relative weights of the old arms stay, so none of them grows but by rounding."""
    old = ref.quotas_of(weights)
    before = ref.first_table(old)
    quotas = ref.quotas_of(weights + [weight * sum(weights)])
    after = ref.moved_table(before, quotas)
    for was, now in zip(before, after):
        assert was == now or now == len(weights) or quotas[now] == old[now] + 1


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_ramping_up_moves_nobody_out(unit, a, b):
    h = ref.draw(ref.seed_of("ramp", "traffic"), ref.unit_hash(unit))
    low, high = sorted((a, b))
    assert not ref.below(h, low) or ref.below(h, high)
