"""conf-examples/fleet/users.acl: each user can do all it has to and nothing else, and no right is too much."""
import hashlib
import time

import pytest
import redis
from lib.edge import ROOT
from lib.redis_library import CONTROL, COUNTERS, EDGES, LIBRARY, Library
from lib.redis_server import RedisServer

FILE = ROOT / "conf-examples" / "fleet" / "users.acl"
CHANNEL = "experiment:push"
USERS = ("experiment-edge", "experiment-operator")
RULES = {line.split()[1]: line.split()[2:] for line in FILE.read_text().splitlines()}
GRANTED = {user: [rule[1:] for rule in rules if rule.startswith("+")] for user, rules in RULES.items()}
# Servers take these from everybody, before a log-in as well.
ALWAYS = {"auth", "hello", "quit", "reset"}


def password(user):
    return f"{user}'s"


@pytest.fixture(scope="module")
def guarded():
    """A server with that file, to which digests of passwords were added, and one who may do anything."""
    with RedisServer(start=False) as server:
        lines = []
        for line in FILE.read_text().splitlines():
            name = line.split()[1]
            digest = hashlib.sha256(password(name).encode()).hexdigest()
            lines.append(line + (f" #{digest}" if name in USERS else "") + "\n")
        (server.folder / "users.acl").write_text("".join(lines) + "user root on nopass ~* &* +@all\n")
        server.options = {"aclfile": server.folder / "users.acl", "cluster_enabled": "yes"}
        server.start()
        with server.client(username="root", password="", decode_responses=True) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            server.wait_for(lambda: "cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
        yield server


@pytest.fixture
def root(guarded):
    """Gives everybody the rights that the file gives, and empties the server."""
    with guarded.client(username="root", password="") as client:
        client.execute_command("ACL", "LOAD")  # it ends the connections of those whose rights it changes
    with guarded.client(username="root", password="", decode_responses=True) as client:
        client.flushall()
        client.execute_command("FUNCTION", "FLUSH")
        client.execute_command("FUNCTION", "LOAD", LIBRARY)
        yield client


def login(server, user):
    return server.client(username=user, password=password(user), decode_responses=True)


def counts(client):
    """What an edge does with counters, the allocator's part included."""
    library = Library(client, "function", load=False)
    assert library.version() == 2
    assert library.merge(COUNTERS, "a", 5, "1", 6, "2") == [1, 1, 1, 1]
    client.sadd("experiment:index", "button:1")
    assert client.smembers("experiment:index") == {"button:1"}
    told = client.execute_command("FCALL_RO", "experiment_totals", 1, COUNTERS, 0, "a", 5)
    assert told == [1, "5", "1", "1"]
    assert library.open(COUNTERS, 6, "text") == 1
    assert library.seal(COUNTERS, 5, "text") == 1
    names = [field for _, found in [client.hscan(COUNTERS, match="s:*")] for field in found]
    assert library.sweep(COUNTERS, 10080, *names) == 1
    assert library.retire(COUNTERS) == 1
    assert library.open(COUNTERS, 6, "text") == 1
    assert library.retire(COUNTERS) == 1, "it was to stay"


def controls(client):
    """What it does with the runtime, and says of itself."""
    library = Library(client, "function", load=False)
    assert client.hmget(CONTROL, "v") == [None]
    _, known = library.write(CONTROL, 0, 1, CHANNEL, "x:button", "{}")
    told = client.execute_command("FCALL_RO", "experiment_changes", 1, CONTROL, 0)
    assert told == [known, 1, "x:button", "{}"]
    client.hset(CONTROL, "v", 1001 * 2**20)  # the next one is the first by which an older one is forgotten
    assert library.write(CONTROL, 1001 * 2**20, 1, CHANNEL, "x:button", "{}") == [1, 1002 * 2**20 + 1]
    assert library.lease(CONTROL, "a", 1000) == [1, "a", 1000]
    assert library.release(CONTROL, "a") == 1
    client.xadd("experiment:audit", {"verb": "kill"}, maxlen=10000)
    end = time.monotonic() + 2
    client.hset(EDGES, "old", "1;{}")
    while client.hmget(EDGES, "old") != [None]:
        assert library.report(EDGES, "a", "{}") == 1 and time.monotonic() < end


def connects(client):
    assert client.ping()
    assert client.execute_command("ROLE")[0] == "master"
    assert client.execute_command("CLUSTER SLOTS")
    assert client.execute_command("ASKING")


def says_who_it_is(client):
    assert client.client_setname("nginx-experiment")


def listens(client):
    library = Library(client, "function", load=False)
    with client.pubsub(ignore_subscribe_messages=False) as pubsub:
        pubsub.subscribe(CHANNEL)
        assert pubsub.get_message(timeout=2)["type"] == "subscribe"
        library.write("experiment:ctl", 0, 1, CHANNEL, "doc", "{}")
        message = pubsub.get_message(timeout=2)
        assert message and message["type"] == "message"


def operates(client):
    """What only people do."""
    client.hset("experiment:history", "1", "{}")
    assert client.hgetall("experiment:history") == {"1": "{}"}
    client.hdel("experiment:history", "1")
    client.xadd("experiment:audit", {"verb": "publish"}, maxlen=10000)
    assert client.xrevrange("experiment:audit")[0][1] == {"verb": "publish"}
    client.sadd("experiment:index", "button:1")
    client.srem("experiment:index", "button:1")
    client.unlink(COUNTERS)
    assert client.execute_command("FUNCTION", "LOAD", "REPLACE", LIBRARY) == "experiment"
    assert client.execute_command("FUNCTION", "LIST")
    assert "redis_version" in client.info()


DUTIES = {"experiment-edge": (counts, controls, connects, says_who_it_is, listens),
          "experiment-operator": (counts, controls, connects, listens, operates)}


def do_all(guarded, root, user):
    for duty in DUTIES[user]:
        root.flushall()
        with login(guarded, user) as client:
            duty(client)


@pytest.mark.parametrize("user", USERS)
def test_each_user_can_do_what_it_has_to(guarded, root, user):
    do_all(guarded, root, user)


# What an edge has, an operator has for the same reasons.
@pytest.mark.parametrize("user, command", [
    (user, command) for user in USERS for command in GRANTED[user]
    if user == USERS[0] or command not in GRANTED[USERS[0]]])
def test_no_command_is_granted_in_vain(guarded, root, user, command):
    root.execute_command("ACL", "SETUSER", user, f"-{command}")
    with pytest.raises((redis.RedisError, AssertionError)):
        do_all(guarded, root, user)


def commands(root):
    """All that the server knows, subcommands as "config|get", and the fewest words that each takes."""
    for told in root.execute_command("COMMAND").values():
        if told.get("subcommands"):
            for sub in told["subcommands"]:
                yield sub[0], abs(sub[1])
        else:
            yield told["name"], abs(told["arity"])


@pytest.mark.parametrize("user", USERS)
def test_everything_else_is_refused(guarded, root, user):
    refused = 0
    with login(guarded, user) as client:
        for command, arity in commands(root):
            if command in GRANTED[user] or command in ALWAYS:
                continue
            words = command.split("|")
            with pytest.raises(redis.RedisError, match="no permissions|MODULE command not allowed"):
                client.execute_command(*words, *[COUNTERS] * max(arity - len(words), 0))
            refused += 1
    assert refused > 200


@pytest.mark.parametrize("user", USERS)
def test_other_keys_and_channels_are_refused(guarded, root, user):
    with login(guarded, user) as client:
        library = Library(client, "function", load=False)
        for name, *arguments in (("merge", "a", 5, "1"), ("totals", 0, ""), ("changes", 0),
                                 ("write", 0, 1, CHANNEL, "doc", "x"), ("report", "a", "{}")):
            for key in ("other:ctl", "experiment", "Experiment:ctl", ""):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    library.call(name, [key], *arguments)
        for command in (("HSET", "other", "a", "b"), ("PUBLISH", "other", "x"), ("HSCAN", "other", 0),
                        ("SUBSCRIBE", "experiment:other"), ("SADD", "other", "x")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)
    assert root.keys("*") == []


def test_a_hint_on_another_channel_is_not_given_and_the_write_stands(guarded, root):
    with login(guarded, "experiment-edge") as client:
        with root.pubsub() as pubsub:
            pubsub.subscribe("other")
            assert pubsub.get_message(timeout=2)["type"] == "subscribe"
            library = Library(client, "function", load=False)
            assert library.write(CONTROL, 0, 1, "other", "doc", "{}") == [1, 2**20 + 1]
            assert pubsub.get_message(timeout=0.1) is None
    assert root.hget(CONTROL, "doc") == "{}"


def test_nobody_can_log_in_before_there_is_a_password(guarded, root):
    root.execute_command("ACL", "SETUSER", "experiment-edge", "resetpass")
    edge = "experiment-edge"
    for user, secret in ((edge, ""), (edge, password(edge)), ("default", "")):
        with guarded.client(username=user, password=secret) as client:
            with pytest.raises(redis.RedisError):
                client.ping()
