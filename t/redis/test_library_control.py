"""Runtime state: compared and set, followed change by change, allocated by one at a time; and reports."""
import time

import pytest
from lib.redis_library import CONTROL, EDGES

STEP = 2**20
CHANNEL = "experiment:push"


def write(library, known, bits=1, **fields):
    fields = {name.replace("x_", "x:"): value for name, value in fields.items()}
    return library.write(CONTROL, known, bits, CHANNEL, *(word for pair in fields.items() for word in pair))


def follow(library, known):
    """(change id, whether that is all there is, fields)"""
    newest, full, *words = library.changes(CONTROL, known)
    return newest, full, dict(zip(words[::2], words[1::2]))


def now_ms():
    return time.time() * 1000


# --- write ------------------------------------------------------------------------------------------------

def test_first_write(library, client):
    assert write(library, 0, 77, doc="{}", d='{"version":1}') == [1, STEP + 77]
    assert client.hgetall(CONTROL) == {"v": str(STEP + 77), "n:1": f"{STEP + 77} doc d", "doc": "{}",
                                       "d": '{"version":1}'}


def test_a_write_on_what_another_has_changed_is_refused(library, client):
    _, first = write(library, 0, 1, doc="one")
    _, second = write(library, first, 2, doc="two")
    before = client.hgetall(CONTROL)
    for known in (0, first, second + 1, 3 * STEP):
        assert write(library, known, 3, doc="three") == [0, second]
    assert client.hgetall(CONTROL) == before
    assert write(library, second, 3, doc="three") == [1, 3 * STEP + 3]


def test_a_write_on_what_was_lost_is_refused(library, client):
    assert write(library, STEP, 1, doc="one") == [0, 0]
    assert client.dbsize() == 0


def test_all_fields_that_may_be_written(library):
    fields = {"doc": "a", "d": "b", "doc_done": "5", "kills": "[]", "x_button": "{}", "x_a-b": "\0\n\xff" * 3}
    _, newest = write(library, 0, **fields)
    expected = {name.replace("x_", "x:"): value for name, value in fields.items()}
    assert follow(library, 0) == (newest, 1, expected)


def test_values_are_stored_as_they_are(library, binary):
    value = bytes(range(256)) * 20000
    binary.execute_command(*library.words("write", [CONTROL], 0, 1, CHANNEL, "doc", value, "kills", b""))
    assert binary.hmget(CONTROL, "doc", "kills") == [value, b""]


def test_as_many_fields_as_a_change_may_have(library):
    fields = {f"x:experiment-{n}": str(n) for n in range(9999)}
    words = [word for pair in fields.items() for word in pair]
    assert library.write(CONTROL, 0, 1, CHANNEL, *words) == [1, STEP + 1]
    assert library.write(CONTROL, STEP + 1, 1, CHANNEL, *words, "doc", "{}") == [1, 2 * STEP + 1]
    expected = {**fields, "doc": "{}"}
    assert follow(library, STEP + 1) == (2 * STEP + 1, 0, expected)
    assert follow(library, 0) == (2 * STEP + 1, 1, expected)


def test_a_write_is_hinted_at(library, client):
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(CHANNEL)
        pubsub.get_message(timeout=1)
        write(library, 0, 5, doc="one")
        write(library, 0, 6, doc="in vain")
        write(library, STEP + 5, 6, doc="two")
        told = [pubsub.get_message(timeout=1) for _ in range(2)]
        assert [message["data"] for message in told] == [str(STEP + 5), str(2 * STEP + 6)]
        assert pubsub.get_message(timeout=0.05) is None


def test_large_numbers_are_exact(library, client):
    """33 bits of changes: one a second for 270 years."""
    last = (2**33 - 3) * STEP + 1048575
    client.hset(CONTROL, mapping={"v": last, f"n:{2**33 - 3}": f"{last} doc", "doc": "old"})
    newest = (2**33 - 2) * STEP + 7
    assert write(library, last, 7, doc="new") == [1, newest]
    assert client.hget(CONTROL, f"n:{2**33 - 2}") == f"{newest} doc"
    assert follow(library, last) == (newest, 0, {"doc": "new"})
    assert follow(library, 2**20) == (newest, 1, {"doc": "new"})  # at once, however many lie between


# --- changes ----------------------------------------------------------------------------------------------

def test_nothing_new(library):
    assert library.changes(CONTROL, 0) == [0, 0]
    _, newest = write(library, 0, doc="one")
    assert library.changes(CONTROL, newest) == [newest, 0]


def test_only_what_was_written_since(library):
    _, first = write(library, 0, 1, doc="one", x_a="1", x_b="1")
    _, second = write(library, first, 2, x_a="2")
    _, third = write(library, second, 3, x_a="3", kills="[]")
    assert follow(library, second) == (third, 0, {"x:a": "3", "kills": "[]"})
    assert follow(library, first) == (third, 0, {"x:a": "3", "kills": "[]"})
    assert follow(library, 0) == (third, 1, {"doc": "one", "x:a": "3", "x:b": "1", "kills": "[]"})


def test_the_lease_is_no_change(library):
    _, newest = write(library, 0, doc="one")
    library.lease(CONTROL, "a", 60000)
    assert library.changes(CONTROL, newest) == [newest, 0]
    assert follow(library, 0) == (newest, 1, {"doc": "one"})


def test_after_a_failover_that_forgot_all_is_told(library, binary):
    """A reader that has seen changes which are gone gets everything, whatever was written since."""
    _, first = write(library, 0, 1, doc="one", x_a="1")
    dump = binary.dump(CONTROL)
    _, second = write(library, first, 2, x_a="lost")
    _, third = write(library, second, 3, x_b="lost")
    binary.restore(CONTROL, 0, dump, replace=True)
    assert follow(library, third) == (first, 1, {"doc": "one", "x:a": "1"})
    assert follow(library, second) == (first, 1, {"doc": "one", "x:a": "1"})
    assert write(library, third, 4, doc="blind") == [0, first]
    _, other = write(library, first, 4, doc="two")
    _, another = write(library, other, 5, doc="three")
    for known in (second, third):  # numbers that are there again
        assert follow(library, known) == (another, 1, {"doc": "three", "x:a": "1"})
    assert follow(library, first) == (another, 0, {"doc": "three"})


def test_an_empty_store_is_told_as_all_there_is(library):
    assert library.changes(CONTROL, 5 * STEP + 1) == [0, 1]


def test_a_thousand_changes_are_kept(library, client):
    """Whoever was away for longer reads everything once."""
    ids = [0]
    for n in range(1005):
        ids.append(write(library, ids[-1], n, **{f"x_e{n % 10}": str(n)})[1])
    notes = sorted(int(field[2:]) for field in client.hkeys(CONTROL) if field.startswith("n:"))
    assert notes == list(range(6, 1006))
    everything = {f"x:e{n % 10}": str(n) for n in range(1005)}
    assert follow(library, ids[6]) == (ids[-1], 0, everything)
    assert follow(library, ids[5]) == (ids[-1], 1, everything)
    assert follow(library, ids[1004]) == (ids[-1], 0, {"x:e4": "1004"})


@pytest.mark.parametrize("lost", ["n:2", "n:3"])
def test_a_change_of_which_nothing_is_known_leads_to_all(library, client, lost):
    _, first = write(library, 0, 1, x_a="1")
    _, second = write(library, first, 2, x_b="2")
    _, third = write(library, second, 3, x_c="3")
    client.hdel(CONTROL, lost)
    assert follow(library, second)[1] == 1
    assert follow(library, third) == (third, 0, {})


# --- lease ------------------------------------------------------------------------------------------------

def test_one_holds_the_lease(library, client):
    before = now_ms()
    assert library.lease(CONTROL, "a", 10000) == [1, "a", 10000]
    until = int(client.hget(CONTROL, "lease_until"))
    assert before + 10000 - 1 <= until <= now_ms() + 10000
    won, holder, left = library.lease(CONTROL, "b", 5000)
    assert (won, holder) == (0, "a") and 0 < left <= 10000
    assert int(client.hget(CONTROL, "lease_until")) == until


def test_a_renewal_can_be_seen_without_a_clock(library, client):
    seen = set()
    for _ in range(3):
        assert library.lease(CONTROL, "a", 10000) == [1, "a", 10000]
        seen.add(client.hget(CONTROL, "lease"))
    assert seen == {"a 1", "a 2", "a 3"}


def test_a_lease_expires_by_the_clock_of_the_server(library, client):
    library.lease(CONTROL, "a", 20)
    end = time.monotonic() + 5
    while library.lease(CONTROL, "b", 10000)[0] == 0:
        assert time.monotonic() < end
    assert client.hget(CONTROL, "lease") == "b 2"
    assert library.lease(CONTROL, "a", 10000)[:2] == [0, "b"]


def test_a_lease_from_a_clock_far_ahead_is_none(library, client):
    library.lease(CONTROL, "a", 10000)
    client.hset(CONTROL, "lease_until", int(now_ms()) + 3600000 + 60000)
    assert library.lease(CONTROL, "b", 10000) == [1, "b", 10000]


def test_release(library, client):
    assert library.release(CONTROL, "a") == 0 and client.dbsize() == 0
    library.lease(CONTROL, "a", 10000)
    assert library.release(CONTROL, "b") == 0
    assert library.release(CONTROL, "a") == 1
    assert library.release(CONTROL, "a") == 0
    assert library.lease(CONTROL, "b", 10000) == [1, "b", 10000]
    assert client.hget(CONTROL, "lease") == "b 2"  # no two leases look alike


@pytest.mark.parametrize("lease", ["a", "", "a b c", " 5"])
def test_a_lease_that_cannot_be_read_is_none(library, client, lease):
    client.hset(CONTROL, mapping={"lease": lease, "lease_until": int(now_ms()) + 5000})
    assert library.lease(CONTROL, "b", 10000) == [1, "b", 10000]


# --- reports ----------------------------------------------------------------------------------------------

def test_report(library, client):
    assert library.report(EDGES, "a", '{"version":1,\n"up":true}') == 1
    assert library.report(EDGES, "b", "{}") == 1
    assert library.report(EDGES, "b", '{"n":2}') == 1
    reports = client.hgetall(EDGES)
    assert {name: text.partition(";")[2] for name, text in reports.items()} == {
        "a": '{"version":1,\n"up":true}', "b": '{"n":2}'}
    assert all(abs(int(text.partition(";")[0]) - time.time()) <= 2 for text in reports.values())


def test_old_reports_go_in_the_end(library, client):
    now = int(time.time())
    client.hset(EDGES, mapping={f"old-{n}": f"{now - 3700};{{}}" for n in range(40)})
    client.hset(EDGES, mapping={f"young-{n}": f"{now - 3000};{{}}" for n in range(60)})
    client.hset(EDGES, "garbage", "{}")
    words = library.words("report", [EDGES], "a", "{}")
    end = time.monotonic() + 30
    while any(name.startswith(("old", "garbage")) for name in client.hkeys(EDGES)):
        pipeline = client.pipeline(transaction=False)
        for _ in range(200):
            pipeline.execute_command(*words)
        pipeline.execute()
        assert time.monotonic() < end
    assert client.hlen(EDGES) == 61


def test_version(library):
    assert library.version() == 2
    assert library.call("version", [CONTROL]) == 2
