"""The connections of an edge to its Redis: the ways there, by name and over TLS, and how it logs in."""
import contextlib
import os
import pathlib
import socket
import tempfile
import threading
import time

import pytest
from lib.authority import Authority
from lib.dns import NameServer
from lib.redis_server import RedisServer
from lib.transport import Published, Traffic, clients, connections, serves, wait_served

SECRET, OTHER_SECRET = "tr0ub4dor-and-3", "correct-horse-4"


@pytest.fixture(scope="module")
def authorities():
    with tempfile.TemporaryDirectory(prefix="experiment-ca-") as folder:
        pathlib.Path(folder).chmod(0o755)
        yield Authority(pathlib.Path(folder) / "ours"), Authority(pathlib.Path(folder) / "others", "other")


# --- ways there ---
def test_by_tcp_and_a_push_is_faster_than_the_poll(stores, server, publish):
    edge = stores(f"redis://{server.address}")
    took = []
    for number in range(1, 5):
        begun = time.monotonic()
        publish()
        wait_served(edge, number)
        took.append(time.monotonic() - begun)
        edge.wait(lambda: any(c["cmd"] == "subscribe" for c in clients(server)))
        time.sleep(0.3)  # not with the poll that follows the push before
    assert min(took[1:]) < 0.5, took
    assert not edge.lines(r"\[error\]| seen when ")


def test_by_a_unix_socket(stores, server, publish):
    publish()
    os.chmod(server.socket, 0o777)
    os.chmod(server.folder, 0o755)
    edge = stores(f"unix:{server.socket}")
    wait_served(edge, 1)
    publish()
    wait_served(edge, 2)


def test_only_the_worker_that_leads_is_connected(stores, server, publish):
    publish()
    edge = stores(f"redis://{server.address}", workers=4)
    wait_served(edge, 1)
    edge.wait(lambda: sorted(connections(edge, server.port).values())[-1:] == [2])
    counts = connections(edge, server.port)
    assert sorted(counts.values()) == [0] * (len(counts) - 1) + [2] and len(counts) >= 4
    assert len(clients(server)) == 2


# --- names ---
def test_names_are_resolved_at_each_connection(stores, server, publish):
    publish()
    with NameServer(store_test="127.0.0.1") as names:
        edge = stores(f"redis://store.test:{server.port}", http=f"resolver 127.0.0.1:{names.port} valid=1s;")
        wait_served(edge, 1)
        asked = names.asked.count("store.test")
        assert asked
        names.names["store.test"] = "127.0.0.2"  # where nobody listens
        server.stop()
        edge.wait_log(r"store.test:\d+: connect\(\) to 127.0.0.2:\d+ failed", seconds=10)
        names.names["store.test"] = "127.0.0.1"
        server.start()
        publish(2)
        wait_served(edge, 2, seconds=10)
        assert names.asked.count("store.test") > asked


def test_a_name_that_nobody_knows_is_said(stores, server):
    with NameServer() as names:
        edge = stores("redis://store.test", http=f"resolver 127.0.0.1:{names.port};")
        edge.wait_log(r"store.test:6379: the name cannot be resolved: Host not found")


def test_a_name_server_that_is_silent_holds_nobody_up(stores, server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        edge = stores("redis://store.test", http=f"resolver 127.0.0.1:{silent.getsockname()[1]};")
        with Traffic(edge):
            edge.wait_log(r"store.test:6379: (no address of the name within 500 ms|.*timed out)")
        begun = time.monotonic()
        edge.stop()
        assert time.monotonic() - begun < 3


class FakeSentinel:
    """Says of every master that it is at `host`, and is no other server."""

    def __init__(self, host):
        self.answers = {b"CLIENT": b"+OK\r\n", b"PING": b"+PONG\r\n",
                        b"SENTINEL": b"*2\r\n$%d\r\n%s\r\n$4\r\n6379\r\n" % (len(host), host.encode())}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client, contextlib.suppress(OSError), client.makefile("rb") as lines:
            while head := lines.readline():
                words = [lines.read(int(lines.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]
                client.sendall(self.answers.get(words[0], b"-ERR unknown command\r\n"))


def test_a_name_that_comes_up_at_run_time_takes_a_resolver(stores):
    with FakeSentinel("redis.internal") as sentinel:
        edge = stores(f"redis+sentinel://{sentinel.address}/shop")
        with Traffic(edge):
            edge.wait_log("redis.internal:6379: a name that came up at run time, which takes a \"resolver\" in the http")
        with NameServer(redis_internal="127.0.0.3") as names:
            able = stores(f"redis+sentinel://{sentinel.address}/shop", http=f"resolver 127.0.0.1:{names.port};")
            able.wait_log(r"redis.internal:6379: connect\(\) to 127.0.0.3:6379 failed")


# --- TLS ---
def tls_server(authorities, *names, days=30, **options):
    certificate, key = authorities[0].server(*names, days=days)
    return RedisServer(tls=(certificate, key, authorities[0].ca), **options)


def test_over_tls_by_address_and_by_name(stores, authorities):
    with tls_server(authorities, "IP:127.0.0.1", "DNS:redis.internal") as server:
        publish = Published(server.client())()
        for options in ("", "name=redis.internal"):
            edge = stores(f"rediss://127.0.0.1:{server.tls_port}", f"ca={authorities[0].ca} {options}")
            wait_served(edge, 1)
            edge.wait(lambda: connections(edge, server.tls_port))
            assert not any(connections(edge, server.port).values())
            assert not edge.lines(r"\[error\]| seen when ")
            edge.stop()


def test_over_tls_with_our_certificate(stores, authorities):
    with tls_server(authorities, "IP:127.0.0.1", tls_auth_clients="yes") as server:
        Published(server.client())()
        certificate, key = authorities[0].client()
        edge = stores(f"rediss://127.0.0.1:{server.tls_port}",
                      f"ca={authorities[0].ca} certificate={certificate} key={key}")
        wait_served(edge, 1)
        bare = stores(f"rediss://127.0.0.1:{server.tls_port}", f"ca={authorities[0].ca}")
        bare.wait_log(r"127.0.0.1:\d+: .*certificate required")


@pytest.mark.parametrize("names, days, trusted, options, reason", [
    (["IP:127.0.0.1"], 30, 1, "", "self.signed certificate in certificate chain"),
    (["IP:127.0.0.1"], 30, None, "", "self.signed certificate in certificate chain"),
    (["IP:127.0.0.1"], -1, 0, "", "certificate has expired"),
    (["DNS:redis.internal"], 30, 0, "", 'it is not one of "127.0.0.1"'),
    (["DNS:127.0.0.1"], 30, 0, "", 'it is not one of "127.0.0.1"'),
    (["IP:127.0.0.1"], 30, 0, "name=redis.internal", 'it is not one of "redis.internal"'),
    (["DNS:*.internal"], 30, 0, "name=a.redis.internal", 'it is not one of "a.redis.internal"'),
], ids=["wrong-ca", "system-ca", "expired", "other-name", "address-as-name", "wrong-name", "wildcard"])
def test_a_server_that_cannot_prove_itself_is_told_nothing(stores, authorities, names, days, trusted, options,
                                                           reason):
    with tls_server(authorities, *names, days=days) as server:
        publish = Published(server.client())()
        server.client().config_resetstat()
        ca = "" if trusted is None else f"ca={authorities[trusted].ca}"
        edge = stores(f"rediss://127.0.0.1:{server.tls_port}", f"{ca} {options} password_file=password",
                      files={"password": (SECRET, 0o644)})
        with Traffic(edge):
            edge.wait_log(r"127.0.0.1:\d+: its certificate is refused: " + reason)
            time.sleep(1)
        assert serves(edge) == 0
        stats = server.client().info("commandstats")
        assert not {"cmdstat_auth", "cmdstat_fcall_ro", "cmdstat_client|setname"} & set(stats)


def test_a_plaintext_port_is_never_spoken_to_in_plain_text(stores, authorities):
    said = []
    with socket.create_server(("127.0.0.1", 0)) as plain:
        def serve():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = plain.accept()
                    said.append(client.recv(4096))
                    client.sendall(b"-ERR Protocol error: unbalanced quotes in request\r\n")
                    client.close()

        threading.Thread(target=serve, daemon=True).start()
        edge = stores(f"rediss://127.0.0.1:{plain.getsockname()[1]}",
                      f"ca={authorities[0].ca} user=edge password_file=password",
                      files={"password": (SECRET, 0o644)})
        edge.wait_log(r"127.0.0.1:\d+: SSL_do_handshake\(\) failed \(SSL: .*wrong version number")
        time.sleep(1.5)
    assert said and all(data[:2] == b"\x16\x03" for data in said)  # TLS handshake records
    assert len(said) <= 4  # two connections, tried again after 5 seconds
    assert not any(b"AUTH" in data or SECRET.encode() in data for data in said)


# --- passwords ---
def acl(password):
    return {"user": [f"edge on >{password} ~* &* +@all", "default on nopass ~* &* +@all"]}


def test_a_password_that_is_wrong_and_then_right(stores):
    with RedisServer(**acl(SECRET)) as server:
        publish = Published(server.client())()
        edge = stores(f"redis://{server.address}", "user=edge password_file=password",
                      files={"password": (OTHER_SECRET + "\n", 0o644)})
        with Traffic(edge):
            edge.wait_log(r"127.0.0.1:\d+: user or password is wrong.*WRONGPASS")
            assert serves(edge) == 0
            server.client().execute_command("ACL", "SETUSER", "edge", "resetpass", f">{OTHER_SECRET}")
            wait_served(edge, 1, seconds=10)
        assert OTHER_SECRET not in edge.text() and len(edge.lines("WRONGPASS")) <= 2


def test_a_password_that_changes_is_read_again_where_workers_may(stores):
    with RedisServer(**acl(SECRET)) as server:
        publish = Published(server.client())()
        edge = stores(f"redis://{server.address}", "user=edge password_file=password",
                      files={"password": (SECRET + "\n", 0o644)})
        wait_served(edge, 1)
        server.client().execute_command("ACL", "SETUSER", "edge", "resetpass", f">{OTHER_SECRET}")
        server.client().execute_command("CLIENT", "KILL", "USER", "edge")
        edge.wait_log("WRONGPASS")
        (edge.folder / "password").write_text(OTHER_SECRET + "\n")
        publish()
        wait_served(edge, 2, seconds=12)
        assert SECRET not in edge.text() and OTHER_SECRET not in edge.text()


def test_a_password_that_only_root_reads_changes_with_a_reload(stores):
    if os.getuid() != 0:
        pytest.skip("workers read what this user may read")
    with RedisServer(**acl(SECRET)) as server:
        publish = Published(server.client())()
        edge = stores(f"redis://{server.address}", "user=edge password_file=password",
                      files={"password": (SECRET + "\n", 0o600)})
        wait_served(edge, 1)
        server.client().execute_command("ACL", "SETUSER", "edge", "resetpass", f">{OTHER_SECRET}")
        server.client().execute_command("CLIENT", "KILL", "USER", "edge")
        (edge.folder / "password").write_text(OTHER_SECRET + "\n")
        edge.wait_log("WRONGPASS")
        edge.reload()
        publish()
        wait_served(edge, 2, seconds=12)


def test_a_user_that_may_not_subscribe_is_told_once_and_polls(stores):
    with RedisServer(user=[f"edge on >{SECRET} ~* resetchannels +@all -subscribe",
                           "default on nopass ~* &* +@all"]) as server:
        publish = Published(server.client())()
        edge = stores(f"redis://{server.address}", "user=edge password_file=password",
                      files={"password": (SECRET, 0o644)})
        wait_served(edge, 1)
        edge.wait_log("changes of the store are seen when it is looked at, not when they are made: .*NOPERM")
        publish()
        wait_served(edge, 2)
        time.sleep(6)
        assert len(edge.lines("changes of the store are seen when")) == 1


def test_a_password_that_no_server_wants_is_fine(stores, server, publish):
    publish()
    edge = stores(f"redis://{server.address}", "password_file=password", files={"password": (SECRET, 0o644)})
    wait_served(edge, 1)
