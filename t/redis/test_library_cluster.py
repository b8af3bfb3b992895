"""The functions in a cluster: each takes one key, so each key may be anywhere; a wrong node says where."""
import pytest
from lib.redis_cluster import RedisCluster
from lib.redis_library import CONTROL, FORMS, Library
from redis.crc import key_slot

KEYS = [f"experiment:c:e{n}:1" for n in range(30)]


@pytest.fixture(scope="module")
def cluster():
    with RedisCluster(masters=3) as cluster:
        yield cluster


@pytest.mark.parametrize("form", FORMS)
def test_keys_are_spread_and_each_is_answered_where_it_is(cluster, form):
    libraries = {}
    for server in cluster.masters:
        client = server.client(decode_responses=True)
        client.flushall()
        libraries[server] = Library(client, form)
    holders = {key: cluster.holder_of(key) for key in [CONTROL, *KEYS]}
    assert set(holders.values()) == set(libraries)
    for key in KEYS:
        for server, library in libraries.items():
            if server is holders[key]:
                assert library.merge(key, "a", 5, "1,2") == [1, 1, 1]
                assert library.totals(key, 0, "a") == [1, "5", "1,2", "1,2"]
            else:
                told = library.refusal("merge", [key], "a", 5, "1,2")
                assert told == f"MOVED {key_slot(key.encode())} {holders[key].address}"
    assert libraries[holders[CONTROL]].write(CONTROL, 0, 1, "experiment:push", "doc", "{}") == [1, 2**20 + 1]


def test_a_hint_reaches_who_listens_at_another_node(cluster):
    holder = cluster.holder_of(CONTROL)
    holder.client().flushall()
    library = Library(holder.client(decode_responses=True), "function")
    other = next(server for server in cluster.masters if server is not holder)
    with other.client(decode_responses=True).pubsub(ignore_subscribe_messages=False) as pubsub:
        pubsub.subscribe("experiment:push")
        assert pubsub.get_message(timeout=5)["type"] == "subscribe"
        library.write(CONTROL, 0, 1, "experiment:push", "doc", "{}")
        assert pubsub.get_message(timeout=5)["data"] == str(2**20 + 1)
