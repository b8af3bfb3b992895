"""experiment_merge: totals are exactly what all instances have counted, whatever became of their flushes."""
import itertools
import random
import time

import pytest
from lib.redis_library import COUNTERS

MAX = 2**53 - 1
EPOCH = 5 * 2**20 + 77


def total(client, epoch=EPOCH):
    mark, _, vector = (client.hget(COUNTERS, f"t:{epoch}") or ";").partition(";")
    return vector


def shard(client, instance, epoch=EPOCH):
    return (client.hget(COUNTERS, f"s:{epoch}:{instance}") or ";").partition(";")[2]


def minutes():
    return int(time.time() // 60)


def age(client, instance, by, epoch=EPOCH):
    """Makes the shard look as if it was last seen so many minutes ago."""
    client.hset(COUNTERS, f"s:{epoch}:{instance}", f"{minutes() - by};{shard(client, instance, epoch)}")


def test_first_flush_makes_the_key(library, client):
    assert library.merge(COUNTERS, "a", EPOCH, "1,20,3") == [1, 1, 1]
    stored = client.hgetall(COUNTERS)
    seen, _, vector = stored.pop(f"s:{EPOCH}:a").partition(";")
    assert vector == "1,20,3" and abs(int(seen) - minutes()) <= 1
    assert stored == {"m": "1", "u": "1", "e": str(EPOCH), f"t:{EPOCH}": "1;1,20,3"}


def test_totals_are_the_sum_of_instances(library, client):
    assert library.merge(COUNTERS, "a", EPOCH, "1,20,3") == [1, 1, 1]
    assert library.merge(COUNTERS, "b", EPOCH, "100,0,1") == [2, 0, 1]
    assert library.merge(COUNTERS, "a", EPOCH, "2,20,3") == [3, 0, 1]
    assert total(client) == "102,20,4"
    assert shard(client, "a") == "2,20,3" and shard(client, "b") == "100,0,1"


def test_the_same_again_writes_nothing(library, client):
    library.merge(COUNTERS, "a", EPOCH, "1,20,3")
    before, written = client.dump(COUNTERS), client.info("replication")["master_repl_offset"]
    for _ in range(3):
        assert library.merge(COUNTERS, "a", EPOCH, "1,20,3") == [1, 0, 0]
    assert client.hgetall(COUNTERS)["u"] == "1" and client.dump(COUNTERS) == before
    assert client.info("replication")["master_repl_offset"] == written


def test_an_older_one_changes_nothing(library, client):
    library.merge(COUNTERS, "a", EPOCH, "10,20,30")
    assert library.merge(COUNTERS, "a", EPOCH, "9,20,1") == [1, 0, 0]
    assert total(client) == "10,20,30" and shard(client, "a") == "10,20,30"


def test_entries_are_merged_one_by_one(library, client):
    library.merge(COUNTERS, "a", EPOCH, "10,20,30")
    assert library.merge(COUNTERS, "a", EPOCH, "11,19,30,4") == [2, 0, 1]
    assert total(client) == "11,20,30,4" and shard(client, "a") == "11,20,30,4"
    assert library.merge(COUNTERS, "a", EPOCH, "12") == [3, 0, 1]
    assert total(client) == "12,20,30,4" and shard(client, "a") == "12,20,30,4"


def test_an_appended_tail_counts_from_zero(library, client):
    library.merge(COUNTERS, "a", EPOCH, "1,2")
    library.merge(COUNTERS, "b", EPOCH, "10,20,30,40")
    assert total(client) == "11,22,30,40"
    assert library.merge(COUNTERS, "a", EPOCH, "1,2,0,5") == [3, 0, 1]
    assert total(client) == "11,22,30,45"


def test_an_appended_zero_is_a_change_once(library, client):
    library.merge(COUNTERS, "a", EPOCH, "1,2")
    assert library.merge(COUNTERS, "a", EPOCH, "1,2,0,0") == [2, 0, 1]
    assert library.merge(COUNTERS, "a", EPOCH, "1,2,0,0") == [2, 0, 0]
    assert library.merge(COUNTERS, "a", EPOCH, "1,2") == [2, 0, 0]
    assert total(client) == "1,2,0,0"


def test_zeros_alone_make_the_epoch_known(library, client):
    assert library.merge(COUNTERS, "a", EPOCH, "0,0") == [1, 1, 1]
    assert total(client) == "0,0" and client.hget(COUNTERS, "e") == str(EPOCH)


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_flushes_gives_the_same_totals(library, client, seed):
    """Every prefix that was ever sent may come late and more than once."""
    rng = random.Random(seed)
    flushes, truth = [], [0] * 9
    for instance in "abc":
        vector = [0] * rng.randint(1, 5)
        for _ in range(6):
            for i in range(len(vector)):
                vector[i] += rng.choice((0, 1, 10**rng.randint(0, 13)))
            vector += [0] * rng.choice((0, 0, 1))
            flushes.append((instance, ",".join(map(str, vector[:9]))))
        truth = [t + v for t, v in itertools.zip_longest(truth, vector[:9], fillvalue=0)]
    flushes = flushes + rng.sample(flushes, 8)
    rng.shuffle(flushes)
    for instance, vector in flushes:
        library.merge(COUNTERS, instance, EPOCH, vector)
    known = [int(n) for n in total(client).split(",")]
    assert known == truth[:len(known)] and not any(truth[len(known):])


def test_sixteen_epochs_in_one_call_are_one_update(library, client):
    epochs = [EPOCH + i for i in range(16)]
    pairs = [word for i, epoch in enumerate(epochs) for word in (epoch, f"{i},1")]
    assert library.merge(COUNTERS, "a", *pairs) == [1, 1] + [1] * 16
    pairs[1], pairs[7] = "5,1", "5,1"
    assert library.merge(COUNTERS, "a", *pairs) == [2, 0] + [1, 0, 0, 1] + [0] * 12
    assert client.hget(COUNTERS, "e") == " ".join(map(str, epochs))
    assert client.hget(COUNTERS, f"t:{epochs[0]}") == "2;5,1"
    assert client.hget(COUNTERS, f"t:{epochs[1]}") == "1;1,1"


def test_epochs_are_listed_once_in_order_of_their_first_flush(library, client):
    for epoch in (7, 70, 0, 7, 17, 70):
        library.merge(COUNTERS, "a", epoch, "1")
    library.merge(COUNTERS, "b", 1, "1", 7, "1", 170, "1")
    assert client.hget(COUNTERS, "e") == "7 70 0 17 1 170"


@pytest.mark.parametrize("value", [9, 10**14 - 1, 10**14, 10**15 + 3, MAX - 1, MAX])
def test_numbers_are_exact(library, client, value):
    """14 digits are what Lua writes by itself."""
    library.merge(COUNTERS, "a", EPOCH, f"{value},7,0,{value}")
    library.merge(COUNTERS, "b", EPOCH, "0,1,3")
    assert total(client) == f"{value},8,3,{value}"
    library.merge(COUNTERS, "b", EPOCH, "0,0,3,0")  # merged entry by entry
    library.merge(COUNTERS, "a", EPOCH, f"{value - 1},9,0,0,1")
    assert shard(client, "a") == f"{value},9,0,{value},1" and total(client) == f"{value},10,3,{value},1"


def test_as_many_entries_as_there_may_be(library, client):
    vector = [str(MAX - i) for i in range(512)]
    assert library.merge(COUNTERS, "a", EPOCH, ",".join(vector)) == [1, 1, 1]
    assert total(client) == ",".join(vector) == shard(client, "a")
    vector[511] = str(MAX)
    assert library.merge(COUNTERS, "a", EPOCH, ",".join(vector)) == [2, 0, 1]
    assert total(client) == ",".join(vector)


def test_a_total_beyond_the_limit_is_refused_and_nothing_is_written(library, client):
    library.merge(COUNTERS, "a", EPOCH, f"5,{MAX - 10}")
    before = client.hgetall(COUNTERS)
    told = library.refusal("merge", [COUNTERS], "b", EPOCH + 1, "1", EPOCH, "1,11")
    assert told == (f"EXPERIMENT experiment_merge: epoch {EPOCH}: total of entry 2: '{MAX - 10}', "
                    f"expected at most {MAX} with 11 more")
    assert client.hgetall(COUNTERS) == before
    assert library.merge(COUNTERS, "b", EPOCH, "1,10") == [2, 0, 1]
    assert total(client) == f"6,{MAX}"


def test_last_seen_is_written_when_it_gets_old(library, client):
    library.merge(COUNTERS, "a", EPOCH, "1,2")
    for by, written in ((30, False), (59, False), (62, True), (100000, True), (-30, False), (-62, True)):
        age(client, "a", by)
        before = client.hget(COUNTERS, f"s:{EPOCH}:a")
        assert library.merge(COUNTERS, "a", EPOCH, "1,2") == [1, 0, 0]
        after = client.hget(COUNTERS, f"s:{EPOCH}:a")
        assert (after != before) == written, by
        assert after.endswith(";1,2") and (not written or abs(int(after.split(";")[0]) - minutes()) <= 1)


def test_an_old_vector_keeps_its_instance_alive_too(library, client):
    library.merge(COUNTERS, "a", EPOCH, "1,2")
    age(client, "a", 100)
    assert library.merge(COUNTERS, "a", EPOCH, "1") == [1, 0, 0]
    assert client.hget(COUNTERS, f"s:{EPOCH}:a") in (f"{minutes()};1,2", f"{minutes() - 1};1,2")


def test_sealed_totals_never_change(library, client):
    library.merge(COUNTERS, "a", EPOCH, "1,2")
    library.seal(COUNTERS, EPOCH, "over")
    before = client.hgetall(COUNTERS)
    assert library.merge(COUNTERS, "a", EPOCH, "2,2") == [1, 0, -1]
    assert library.merge(COUNTERS, "a", EPOCH, "1,2") == [1, 0, -1]
    assert library.merge(COUNTERS, "b", EPOCH, "5,5") == [1, 0, -1]
    assert client.hgetall(COUNTERS) == {**before, f"l:{EPOCH}": "3"}


def test_sealed_epochs_do_not_keep_others_from_being_merged(library, client):
    library.seal(COUNTERS, 1, "", 3, "")
    assert library.merge(COUNTERS, "a", 1, "1", 2, "2", 3, "3") == [1, 1, -1, 1, -1]
    assert library.merge(COUNTERS, "a", 1, "1", 2, "2") == [1, 0, -1, 0]
    stored = client.hgetall(COUNTERS)
    assert (stored["l:1"], stored["l:3"], stored["e"], stored["t:2"]) == ("2", "1", "2", "1;2")
    assert "t:1" not in stored and "s:1:a" not in stored


def test_an_instance_that_was_folded_away_is_refused(library, client):
    library.merge(COUNTERS, "a", EPOCH, "1,2")
    client.hset(COUNTERS, "x:a", minutes())
    before = client.hgetall(COUNTERS)
    told = library.refusal("merge", [COUNTERS], "a", EPOCH, "5,5")
    assert told.startswith("EXPERIMENT FENCED experiment_merge: instance: 'a', expected a new one")
    assert client.hgetall(COUNTERS) == before
    assert library.merge(COUNTERS, "b", EPOCH, "1,1") == [2, 0, 1]


def test_open_epochs_take_flushes(library, client):
    """The key was there before, but these are its first totals."""
    library.open(COUNTERS, EPOCH, "5000,5000")
    assert library.merge(COUNTERS, "a", EPOCH, "1,2") == [1, 1, 1]
    assert client.hget(COUNTERS, f"a:{EPOCH}") == "open;5000,5000"
