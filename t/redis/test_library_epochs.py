"""What becomes of counters: read as they change, sealed, and swept when nobody will send them again."""
import time

import pytest
from lib.redis_library import COUNTERS

WEEK = 7 * 1440
MONTH = 30 * 1440


def minutes(ago=0):
    return int(time.time() // 60) - ago


def age(client, instance, ago):
    """Makes all shards of an instance look as if they were last seen so many minutes ago."""
    for field, text in client.hgetall(COUNTERS).items():
        if field.startswith("s:") and field.endswith(f":{instance}"):
            client.hset(COUNTERS, field, f"{minutes(ago)};{text.partition(';')[2]}")


def shards(client):
    return sorted(field for field in client.hkeys(COUNTERS) if field.startswith("s:"))


# --- totals -----------------------------------------------------------------------------------------------

def test_totals_of_nothing(library, client):
    assert library.totals(COUNTERS, 0, "") == [0]
    assert library.totals(COUNTERS, 9, "a", 5) == [0]
    library.open(COUNTERS, 5, "")
    assert library.totals(COUNTERS, 0, "") == [0]


def test_totals_of_all_epochs_and_ones_own_vectors(library):
    library.merge(COUNTERS, "a", 5, "1,2", 7, "3")
    library.merge(COUNTERS, "b", 7, "10,20")
    assert library.totals(COUNTERS, 0, "") == [2, "5", "1,2", "", "7", "13,20", ""]
    assert library.totals(COUNTERS, 0, "a") == [2, "5", "1,2", "1,2", "7", "13,20", "3"]
    assert library.totals(COUNTERS, 0, "b") == [2, "5", "1,2", "", "7", "13,20", "10,20"]


def test_totals_of_some_epochs_in_the_order_that_was_asked_for(library):
    library.merge(COUNTERS, "a", 5, "1", 7, "2", 9, "3")
    assert library.totals(COUNTERS, 0, "", 9, 6, 5) == [1, "9", "3", "", "5", "1", ""]


def test_totals_are_told_when_they_changed(library):
    library.merge(COUNTERS, "a", 5, "1", 7, "1")
    library.merge(COUNTERS, "a", 7, "2")
    assert library.totals(COUNTERS, 1, "a") == [2, "7", "2", "2"]
    assert library.totals(COUNTERS, 2, "a") == [2]
    library.merge(COUNTERS, "a", 7, "2")
    assert library.totals(COUNTERS, 2, "a") == [2]
    library.merge(COUNTERS, "b", 5, "4")
    assert library.totals(COUNTERS, 2, "a") == [3, "5", "5", "1"]
    assert library.totals(COUNTERS, 2, "a", 7) == [3]


def test_a_mark_that_is_ahead_means_that_the_store_forgot(library):
    library.merge(COUNTERS, "a", 5, "1")
    assert library.totals(COUNTERS, 17, "") == [1, "5", "1", ""]


def test_totals_of_thousands_of_epochs(library):
    """More than Lua can take at once."""
    for first in range(0, 4000, 16):
        library.merge(COUNTERS, "a", *(word for epoch in range(first, first + 16) for word in (epoch, epoch)))
    told = library.totals(COUNTERS, 0, "a")
    assert told[0] == 250 and told[1::3] == told[2::3] == told[3::3] == [str(n) for n in range(4000)]
    assert library.totals(COUNTERS, 249, "", *range(3500, 4000)) == [250, *(
        word for epoch in range(3984, 4000) for word in (str(epoch), str(epoch), ""))]


# --- seal and open ----------------------------------------------------------------------------------------

def test_seal_counts_what_is_newly_sealed_and_keeps_the_first_text(library, client):
    library.merge(COUNTERS, "a", 5, "1")
    assert library.seal(COUNTERS, 5, "one", 6, "never flushed") == 2
    assert library.seal(COUNTERS, 5, "two", 7, "three") == 1
    assert library.seal(COUNTERS, 5, "two", 7, "three") == 0
    stored = client.hgetall(COUNTERS)
    assert [stored[f"a:{n}"] for n in (5, 6, 7)] == ["sealed;one", "sealed;never flushed", "sealed;three"]
    assert stored["u"] == "1" and stored["e"] == "5"


def test_open_writes_what_is_not_sealed(library, client):
    assert library.open(COUNTERS, 5, "a;b\n\x7f", 6, "") == 2
    library.seal(COUNTERS, 6, "over")
    assert library.open(COUNTERS, 5, "other", 6, "other", 7, "new") == 2
    stored = client.hgetall(COUNTERS)
    assert stored == {"m": "1", "a:5": "open;other", "a:6": "sealed;over", "a:7": "open;new"}


@pytest.mark.parametrize("name", ["seal", "open"])
def test_the_same_state_again_writes_nothing(library, client, name):
    library.call(name, [COUNTERS], 5, "text")
    written = client.info("replication")["master_repl_offset"]
    library.call(name, [COUNTERS], 5, "text")
    assert client.info("replication")["master_repl_offset"] == written


def test_as_many_epochs_as_a_call_may_name(library, client):
    pairs = [word for epoch in range(1000) for word in (epoch, "x" * 40)]
    assert library.open(COUNTERS, *pairs) == 1000 == library.seal(COUNTERS, *pairs)
    assert client.hlen(COUNTERS) == 1001
    assert library.totals(COUNTERS, 0, "", *range(1000)) == [0]


# --- retire -----------------------------------------------------------------------------------------------

def test_counters_of_a_former_generation_go_in_a_month_whatever_comes_in(library, client):
    assert library.retire(COUNTERS) == 0 and client.dbsize() == 0
    library.merge(COUNTERS, "a", 5, "1")
    assert library.retire(COUNTERS) == 1 and MONTH * 60 - 60 < client.ttl(COUNTERS) <= MONTH * 60
    client.expire(COUNTERS, 1000)
    assert library.retire(COUNTERS) == 0
    library.merge(COUNTERS, "a", 5, "2", 6, "1")
    library.sweep(COUNTERS, WEEK, *shards(client))
    assert 0 < client.ttl(COUNTERS) <= 1000
    assert library.totals(COUNTERS, 0, "") == [2, "5", "2", "", "6", "1", ""]


@pytest.mark.parametrize("name", ["seal", "open"])
def test_a_generation_that_is_current_again_stays(library, client, name):
    library.merge(COUNTERS, "a", 5, "1")
    library.call(name, [COUNTERS], 5, "text")
    library.retire(COUNTERS)
    library.call(name, [COUNTERS], 5, "text")
    assert client.ttl(COUNTERS) == -1


# --- sweep ------------------------------------------------------------------------------------------------

def test_vectors_of_sealed_epochs_go_and_their_totals_stay(library, client):
    library.merge(COUNTERS, "a", 5, "1", 7, "2")
    library.merge(COUNTERS, "b", 5, "10")
    library.seal(COUNTERS, 5, "")
    assert library.sweep(COUNTERS, WEEK, *shards(client), *shards(client)) == 2  # HSCAN finds some twice
    assert shards(client) == ["s:7:a"]
    assert library.totals(COUNTERS, 0, "a") == [2, "5", "11", "", "7", "2", "2"]
    assert not [field for field in client.hkeys(COUNTERS) if field.startswith("x:")]
    assert library.merge(COUNTERS, "a", 5, "2", 7, "3") == [3, 0, -1, 1]


def test_instances_that_were_idle_are_folded_away(library, client):
    library.merge(COUNTERS, "a", 5, "1", 7, "2")
    library.merge(COUNTERS, "b", 7, "10")
    age(client, "a", WEEK)
    assert library.sweep(COUNTERS, WEEK + 1, *shards(client)) == 0
    assert library.sweep(COUNTERS, WEEK, *shards(client)) == 2
    assert shards(client) == ["s:7:b"] and abs(int(client.hget(COUNTERS, "x:a")) - minutes()) <= 1
    assert library.totals(COUNTERS, 0, "") == [2, "5", "1", "", "7", "12", ""]
    assert library.refusal("merge", [COUNTERS], "a", 7, "3").startswith("EXPERIMENT FENCED ")
    assert library.totals(COUNTERS, 0, "", 7) == [2, "7", "12", ""]


def test_an_instance_that_was_seen_in_another_epoch_is_alive(library, client):
    """It flushes what changed, and in an older epoch nothing did."""
    library.merge(COUNTERS, "a", 5, "1", 7, "2")
    age(client, "a", WEEK)
    library.merge(COUNTERS, "a", 7, "3")
    assert library.sweep(COUNTERS, WEEK, "s:5:a") == 0
    assert shards(client) == ["s:5:a", "s:7:a"]


def test_one_named_vector_folds_all_of_its_instance(library, client):
    library.merge(COUNTERS, "a", *(word for epoch in range(16) for word in (epoch, "1")))
    library.merge(COUNTERS, "aa", 3, "1")
    age(client, "a", WEEK)
    assert library.sweep(COUNTERS, WEEK, "s:3:a", "s:3:a", "s:4:a") == 16
    assert shards(client) == ["s:3:aa"]


def test_an_idle_instance_of_sealed_epochs_needs_no_tombstone(library, client):
    library.merge(COUNTERS, "a", 5, "1")
    library.seal(COUNTERS, 5, "")
    age(client, "a", WEEK)
    assert library.sweep(COUNTERS, WEEK, "s:5:a") == 1
    assert client.hget(COUNTERS, "x:a") is None
    assert library.merge(COUNTERS, "a", 6, "1") == [2, 0, 1]


def test_names_that_went_meanwhile_are_passed_over(library, client):
    library.merge(COUNTERS, "a", 5, "1")
    assert library.sweep(COUNTERS, WEEK, "s:5:gone", "s:9:a", "x:gone") == 0
    client.delete(COUNTERS)
    assert library.sweep(COUNTERS, WEEK, "s:5:a", "x:a") == 0 and client.dbsize() == 0


def test_a_last_seen_that_is_no_number_or_ahead_is_no_reason(library, client):
    library.merge(COUNTERS, "a", 5, "1")
    for text in ("soon;1", f"{minutes(-WEEK)};1"):
        client.hset(COUNTERS, "s:5:a", text)
        assert library.sweep(COUNTERS, WEEK, "s:5:a") == 0


def test_tombstones_go_when_nobody_can_come_back(library, client):
    library.merge(COUNTERS, "a", 5, "1")
    client.hset(COUNTERS, mapping={"x:b": minutes(MONTH - 2), "x:c": minutes(MONTH), "x:d": "?"})
    assert library.sweep(COUNTERS, 2 * MONTH, "x:b", "x:c", "x:d") == 0
    assert library.sweep(COUNTERS, WEEK, "x:b", "x:c", "x:d") == 1
    assert sorted(f for f in client.hkeys(COUNTERS) if f.startswith("x:")) == ["x:b", "x:d"]


def test_as_many_names_as_a_call_may_give(library, client):
    """Each of another idle instance in many epochs: more than one call does, for others wait."""
    pipeline = client.pipeline(transaction=False)
    for instance in range(1000):
        for epoch in range(0, 16):
            pipeline.hset(COUNTERS, f"s:{epoch}:i{instance}", f"{minutes(WEEK)};1")
    pipeline.hset(COUNTERS, mapping={"m": "1", "u": "1", "e": " ".join(map(str, range(16)))})
    pipeline.execute()
    told = []
    while left := [name for name in shards(client) if name.startswith("s:3:")]:
        told.append(library.sweep(COUNTERS, WEEK, *left))
    assert told == [1008] * 15 + [880]
    assert not shards(client) and client.hlen(COUNTERS) == 1003
