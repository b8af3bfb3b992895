"""What servers do with what the functions write: copy it, read it after a start, refuse it without room."""
import random
import time

import pytest
import redis
from lib.redis_library import CONTROL, COUNTERS, EDGES, FORMS, LIBRARY, Library
from lib.redis_server import RedisServer

WEEK = 7 * 1440


def work(library, seed=1, calls=300):
    """Some of everything that writes."""
    rng = random.Random(seed)
    vectors, newest = {}, 0
    for _ in range(calls):
        instance, epoch = rng.choice("abcd"), rng.randrange(6)
        vector = vectors.setdefault((instance, epoch), [0] * rng.randint(1, 40))
        for i in range(len(vector)):
            vector[i] += rng.choice((0, 0, 1, 10**rng.randint(0, 12)))
        try:
            library.merge(COUNTERS, instance, epoch, ",".join(map(str, vector)))
        except redis.ResponseError as error:
            assert "FENCED" in str(error)
        if rng.random() < 0.1:
            newest = library.write(CONTROL, newest, rng.randrange(2**20), "experiment:push", f"x:e{epoch}",
                                   str(vector))[1]
        if rng.random() < 0.1:
            library.lease(CONTROL, instance, 1 + rng.randrange(3))
            library.report(EDGES, instance, "{}")
    library.open(COUNTERS, 1, "open")
    library.seal(COUNTERS, 2, "sealed", 3, "sealed")
    library.merge(COUNTERS, "a", 2, "1")
    library.client.hset(COUNTERS, "s:4:b", f"{int(time.time() // 60) - WEEK};1")
    library.client.hset(COUNTERS, "s:9:e", f"{int(time.time() // 60) - WEEK};1")
    library.sweep(COUNTERS, WEEK, *(f"s:{epoch}:{instance}" for epoch in range(10) for instance in "abcde"))
    library.release(CONTROL, "a")


def contents(client):
    return {key: client.hgetall(key) for key in client.keys("*")}


def other(master, servers, **options):
    """A replica of it that has all it has."""
    replica = servers(replicaof=f"127.0.0.1 {master.port}", repl_diskless_sync_delay=0, **options)
    RedisServer.wait_for(lambda: replica.client().info("replication").get("master_link_status") == "up")
    return replica


def caught_up(master, replica):
    def same():
        offsets = [s.client().info("replication")[name] for s, name in
                   ((master, "master_repl_offset"), (replica, "slave_repl_offset"))]
        return offsets[0] == offsets[1]
    RedisServer.wait_for(same)


@pytest.mark.parametrize("form", FORMS)
def test_a_replica_has_the_same(servers, form):
    """What was written is copied, not what was called: clocks and chance are the master's."""
    master = servers(repl_diskless_sync_delay=0)
    replica = other(master, servers)
    work(Library(master.client(decode_responses=True), form))
    caught_up(master, replica)
    there, here = (s.client(decode_responses=True) for s in (replica, master))
    assert contents(there) == contents(here) and len(contents(here)) == 3
    digests = [client.execute_command("DEBUG", "DIGEST") for client in (there, here)]
    assert digests[0] == digests[1] != "0" * 40


def test_a_replica_answers_reads_and_refuses_writes(servers):
    master = servers(repl_diskless_sync_delay=0)
    replica = other(master, servers)
    library = Library(master.client(decode_responses=True), "function")
    work(library)
    caught_up(master, replica)
    there = Library(replica.client(decode_responses=True), "function", load=False)  # it came with the data
    assert there.version() == 2
    assert there.totals(COUNTERS, 0, "a") == library.totals(COUNTERS, 0, "a")
    assert sorted(map(str, there.changes(CONTROL, 0))) == sorted(map(str, library.changes(CONTROL, 0)))
    assert there.client.execute_command("FCALL_RO", "experiment_totals", 1, COUNTERS, 0, "") == \
        library.totals(COUNTERS, 0, "")
    for name, key, *arguments in (("merge", COUNTERS, "a", 1, "1"), ("seal", COUNTERS, 1, ""),
                                  ("write", CONTROL, 0, 1, "c", "doc", "{}"), ("report", EDGES, "a", "{}")):
        with pytest.raises(redis.RedisError, match="read only replica"):
            there.call(name, [key], *arguments)


@pytest.mark.parametrize("form", FORMS)
def test_a_replica_that_is_promoted_goes_on_where_it_was(servers, form):
    """What it did not get comes with the next flush of whoever counted it."""
    master = servers(repl_diskless_sync_delay=0)
    replica = other(master, servers)
    library = Library(master.client(decode_responses=True), form)
    library.merge(COUNTERS, "a", 5, "1,2")
    library.merge(COUNTERS, "b", 5, "10,20")
    caught_up(master, replica)
    replica.client().execute_command("REPLICAOF", "NO", "ONE")
    assert library.merge(COUNTERS, "a", 5, "3,2") == [3, 0, 1]  # by one that is master no more: it is lost
    master.kill()
    there = Library(replica.client(decode_responses=True), form)
    assert there.totals(COUNTERS, 0, "a") == [2, "5", "11,22", "1,2"]
    assert there.merge(COUNTERS, "a", 5, "3,2") == [3, 0, 1]
    assert there.totals(COUNTERS, 0, "a") == [3, "5", "13,22", "3,2"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", [
    {"appendonly": "yes", "appendfsync": "always", "aof_use_rdb_preamble": "no"},
    {"appendonly": "yes", "appendfsync": "everysec"}])
def test_a_server_that_was_killed_has_what_its_log_has(servers, form, options):
    server = servers(**options)
    library = Library(server.client(decode_responses=True), form)
    work(library)
    before = contents(library.client)
    if options["appendfsync"] == "everysec":
        library.client.bgrewriteaof()
        RedisServer.wait_for(lambda: not any(library.client.info("persistence")[f"aof_rewrite_{what}"]
                             for what in ("in_progress", "scheduled")))
        work(library, seed=2)
        before = contents(library.client)
        # What was said while the disk was busy is written later.
        RedisServer.wait_for(lambda: library.client.info("persistence")["aof_buffer_length"] == 0)
    server.kill()
    server.start()
    client = server.client(decode_responses=True)
    assert contents(client) == before
    again = Library(client, form, load=False)
    if form == "function":
        assert again.version() == 2
    else:  # scripts are not kept; who calls one has it at hand
        with pytest.raises(redis.exceptions.NoScriptError):
            again.version()
        again.load()
    assert again.merge(COUNTERS, "z", 11, "1")[1:] == [0, 1]


def test_a_server_that_was_stopped_has_what_it_saved(servers):
    server = servers(save='"3600 1"')
    library = Library(server.client(decode_responses=True), "function")
    work(library)
    before = contents(library.client)
    server.restart()
    client = server.client(decode_responses=True)
    assert contents(client) == before and Library(client, "function", load=False).version() == 2


def fill(servers, form):
    """A server without any room left, and what it holds."""
    server = servers(maxmemory_policy="noeviction")
    library = Library(server.client(decode_responses=True), form)
    for n in range(100):
        library.merge(COUNTERS, f"i{n}", 5, "1,2", 6, ",".join(["1000"] * 400))
    library.seal(COUNTERS, 6, "")
    library.write(CONTROL, 0, 1, "c", "doc", "x" * 1000)
    before = contents(library.client)
    library.client.config_set("maxmemory", library.client.info("memory")["used_memory"] - 1000)
    return library, before


MERGES = [("merge", COUNTERS, "i5", 5, "1,3"), ("merge", COUNTERS, "new", 5, "1,2", 7, "1"),
          ("report", EDGES, "a", "{}")]
STATE = [("seal", COUNTERS, 5, ""), ("open", COUNTERS, 7, ""),
         ("write", CONTROL, 2**20 + 1, 1, "c", "kills", "x"),
         ("lease", CONTROL, "a", 1000), ("release", CONTROL, "a")]


@pytest.mark.parametrize("form", FORMS)
def test_without_memory_merges_are_refused_whole_and_a_sweep_makes_room(servers, form):
    library, before = fill(servers, form)
    refused = MERGES if form == "function" else MERGES + STATE[:-1]
    for name, key, *arguments in refused:
        assert library.refusal(name, [key], *arguments).startswith("OOM ")
    assert contents(library.client) == before
    assert library.totals(COUNTERS, 0, "", 5) == [100, "5", "100,200", ""]
    assert library.changes(CONTROL, 0)[:2] == [2**20 + 1, 1]
    assert library.sweep(COUNTERS, WEEK, *(f"s:6:i{n}" for n in range(100))) == 100
    assert library.merge(COUNTERS, "i5", 5, "1,3") == [101, 0, 1]


def test_without_memory_functions_take_kills_leases_and_epochs(servers):
    library, _ = fill(servers, "function")
    answers = [library.call(name, [key], *arguments) for name, key, *arguments in STATE]
    assert answers == [1, 1, [1, 2 * 2**20 + 1], [1, "a", 1000], 1]
    assert library.client.hget(CONTROL, "kills") == "x"
    for name, key, *arguments in MERGES:
        assert library.refusal(name, [key], *arguments).startswith("OOM ")


def test_a_server_without_enough_replicas_refuses_writes(servers):
    server = servers()
    library = Library(server.client(decode_responses=True), "function")
    work(library)
    library.client.config_set("min-replicas-to-write", 1)
    before = contents(library.client)
    for name, key, *arguments in (("merge", COUNTERS, "z", 5, "1"), ("sweep", COUNTERS, WEEK, "s:5:a"),
                                  ("write", CONTROL, 0, 1, "c", "doc", "x")):
        assert library.refusal(name, [key], *arguments).startswith("NOREPLICAS ")
    assert contents(library.client) == before
    assert library.totals(COUNTERS, 0, "")[0] > 0


def test_another_version_replaces_the_library(client):
    library = Library(client, "function")
    newer = LIBRARY.replace("local VERSION = 2\n", "local VERSION = 3\n")
    client.execute_command("FUNCTION", "LOAD", "REPLACE", newer)
    assert library.version() == 3
    library.load()
    assert library.version() == 2
