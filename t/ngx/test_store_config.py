"""experiment_store in nginx.conf: what is refused, and that its password is in no text."""
import os
import re
import socket
import threading

import pytest
from lib.authority import Authority

EMERG = r"\[emerg\]"
UNIT = "experiment_unit visitor cookie=uid mint;"
ZONE = "experiment_zone zone=e:8m state={folder}/state;"
KEYS = "experiment_keys {folder}/keys;"
SERVER = "server { listen 127.0.0.1:{port}; location / { experiment all; return 200; } }"
SECRET = "tr0ub4dor-and-3"
URL = "redis://127.0.0.1:6379"
TLS = "rediss://127.0.0.1:6379"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def prepare(edges, store, authority=None, **changes):
    """An edge that was not started, with everything that the directive may name in its folder."""
    settings = {"http": SERVER, "zone": ZONE + UNIT + KEYS + store, **changes}
    edge = edges(settings["http"], zone=settings["zone"], start=False, allowed=EMERG)
    (edge.folder / "keys").write_text("0123456789abcdef" * 4 + "\n")
    (edge.folder / "password").write_text(SECRET + "\nsecond line\n")
    (edge.folder / "password").chmod(0o600)
    (edge.folder / "empty").write_text("\n")
    (edge.folder / "text").write_text("no certificate\n")
    if authority:
        certificate, key = authority.client()
        for name, source in (("ca.pem", authority.ca), ("edge.pem", certificate), ("edge.key", key),
                             ("other.key", authority.client()[1])):
            (edge.folder / name).write_bytes(source.read_bytes())
    return edge


def refusal(edge):
    done = edge.test()
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if "[emerg]" in line]
    assert len(lines) == 1, done.stderr
    assert SECRET not in done.stderr + done.stdout + edge.text()
    return lines[0]


@pytest.mark.parametrize("store, expected", [
    ("experiment_store;", 'invalid number of arguments in "experiment_store"'),
    (f"experiment_store {URL}; experiment_store {URL};", '"experiment_store" directive is duplicate'),
    ("experiment_store redis.internal;", '"experiment_store": "redis.internal": expected redis:, rediss:,'),
    ("experiment_store http://redis.internal;", '"experiment_store": "http": expected redis:, rediss:,'),
    ("experiment_store redis://;", '"experiment_store": "redis://": "" is not a host'),
    ("experiment_store redis://127.0.0.1:port;", '"experiment_store": .*, expected redis://host'),
    (f"experiment_store redis://:{SECRET}@127.0.0.1;",
     'experiment_store": a URL .* holds a user or a password: expected none, .* by user= and password_file='),
    ("experiment_store redis+sentinel://127.0.0.1;", '"experiment_store": .* name of the master'),
    ("experiment_store unix:relative;", '"experiment_store": .*expected unix:/path'),
    (f"experiment_store {URL} color=red;",
     '"color=red" in "experiment_store", expected namespace=, user=, password_file=, ca=, certificate=, key=, '
     'name=, connect_timeout= or command_timeout='),
    (f"experiment_store {URL} {URL};", f'"{URL}" in "experiment_store", expected namespace=, user='),
    (f"experiment_store {URL} namespace=a namespace=b;",
     '"namespace=b" in "experiment_store", expected each parameter once'),
    (f"experiment_store {URL} user=;", '"user=" in "experiment_store", expected a value'),
    (f"experiment_store {URL} namespace=a:b;",
     '"namespace=a:b" in "experiment_store", expected namespace=NAME of at most 40 letters'),
    (f"experiment_store {URL} namespace={'n' * 41};",
     '"namespace=n+" in "experiment_store", expected namespace=NAME of at most 40 letters'),
    (f"experiment_store {URL} connect_timeout=soon;",
     '"connect_timeout=soon" in "experiment_store", expected connect_timeout=TIME from 10ms to 10s'),
    (f"experiment_store {URL} connect_timeout=9ms;",
     '"connect_timeout=9ms" in "experiment_store", expected connect_timeout=TIME from'),
    (f"experiment_store {URL} command_timeout=11s;",
     '"command_timeout=11s" in "experiment_store", expected command_timeout=TIME from 10ms to 10s'),
    (f"experiment_store {URL} user=edge;",
     '"user=edge" in "experiment_store", expected password_file=PATH beside it'),
    (f"experiment_store {URL} password_file=absent;",
     r'"experiment_store": the password cannot be read \(\S+/absent: No such file.*\), expected a file'),
    (f"experiment_store {URL} password_file={{folder}};",
     r'"experiment_store": the password cannot be read \(\S+: not a regular file\), expected a file whose'),
    (f"experiment_store {URL} password_file=empty;",
     r'"experiment_store": the password cannot be read \(\S+/empty: the first line is empty\), expected'),
] + [
    (f"experiment_store {URL} {parameter};",
     rf'"{parameter}" in "experiment_store", expected a URL with TLS \(rediss://\) before it')
    for parameter in ("ca=ca.pem", "certificate=edge.pem", "key=edge.key", "name=redis.internal")
] + [
    (f"experiment_store {TLS} certificate=edge.pem;",
     '"certificate=edge.pem" in "experiment_store", expected key=PATH beside it'),
    (f"experiment_store {TLS} key=edge.key;",
     '"key=edge.key" in "experiment_store", expected certificate=PATH beside it'),
    (f"experiment_store {TLS} ca=absent;",
     r'"ca=\S+/absent" in "experiment_store", expected a PEM file with the cert.*No such file'),
    (f"experiment_store {TLS} ca=text;",
     r'"ca=\S+/text" in "experiment_store", expected a PEM file with the cert.*\(SSL: '),
    (f"experiment_store {TLS} certificate=absent key=edge.key;",
     r'"certificate=\S+/absent" in "experiment_store", expected a PEM file with a cert.*No such file'),
    (f"experiment_store {TLS} certificate=edge.pem key=other.key;",
     r'"certificate=\S+/edge.pem" in "experiment_store", expected .* its key in that of key=.*mismatch'),
])
def test_misuse_is_one_clear_line(edges, authority, store, expected):
    line = refusal(prepare(edges, store, authority))
    assert re.search(expected, line), line
    assert re.search(r" in \S+nginx\.conf:\d+$", line), line


@pytest.mark.parametrize("zone, http, expected", [
    (ZONE + UNIT + f"experiment_store {URL};", SERVER,
     '"experiment_store" needs "experiment_keys FILE;": all edges of a fleet sign and read cookies with one key'),
    (KEYS + f"experiment_store {URL};", "server { listen 127.0.0.1:{port}; }",
     'experiment directives are used without "experiment_zone"'),
    (f"experiment_store {URL};", "server { listen 127.0.0.1:{port}; }",
     'experiment directives are used without "experiment_zone"'),
    (ZONE + UNIT + KEYS, "server { listen 127.0.0.1:{port}; experiment_store %s; }" % URL,
     '"experiment_store" directive is not allowed here'),
    (ZONE + UNIT + KEYS + "experiment_store redis://no-such-host.invalid;", SERVER,
     '"no-such-host.invalid" in "experiment_store": host not found; expected an address, a name that can be '
     'resolved now, or a "resolver" in the http block'),
])
def test_what_belongs_together(edges, zone, http, expected):
    line = refusal(prepare(edges, "", zone=zone, http=http))
    assert re.search(expected, line), line


@pytest.mark.parametrize("store", [
    "experiment_store {url};",
    "experiment_store {url} namespace=shop-2_a.b;",
    "experiment_store {url} user=edge password_file=password;",
    "experiment_store {url} connect_timeout=10ms command_timeout=10s;",
    "experiment_store redis://localhost:{redis};",
    "experiment_store redis+sentinel://127.0.0.1:{redis},localhost:{redis}/main;",
    "experiment_store redis+cluster://127.0.0.1:{redis},[::1]:{redis};",
    "experiment_store unix:{folder}/redis.sock;",
    "experiment_store rediss://127.0.0.1:{redis};",
    "experiment_store rediss://127.0.0.1:{redis} ca=ca.pem name=redis.internal;",
    "experiment_store rediss://127.0.0.1:{redis} ca=ca.pem certificate=edge.pem key=edge.key;",
    "resolver 127.0.0.1:1; experiment_store redis://no-such-host.invalid;",
    "experiment_store redis://no-such-host.invalid; resolver 127.0.0.1:1;",
])
def test_a_test_of_the_configuration_connects_to_nobody(edges, authority, store):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        store = store.replace("{url}", "redis://127.0.0.1:{redis}").replace("{redis}", str(port))
        edge = prepare(edges, store, authority)
        done = edge.test()
        assert done.returncode == 0, done.stderr
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def test_the_password_is_in_no_text(edges):
    edge = prepare(edges, f"experiment_store {URL} user=edge password_file=password;")
    dumped = edge.command("-T")
    assert dumped.returncode == 0 and "password_file=password" in dumped.stdout
    assert SECRET not in dumped.stdout + dumped.stderr + edge.text()


def test_a_password_that_only_the_master_may_read_reaches_the_server(edges):
    if os.getuid() != 0:
        pytest.skip("workers read what this user may read")
    said = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            client, _ = server.accept()
            with client:
                said.append(client.recv(4096))
                client.sendall(b"+OK\r\n+OK\r\n+PONG\r\n")
                client.settimeout(10)
                client.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        edge = prepare(edges, f"experiment_store redis://127.0.0.1:{server.getsockname()[1]} user=edge "
                              "password_file=password;")
        edge.start()
        thread.join(10)
    login = "*3\r\n$4\r\nAUTH\r\n$4\r\nedge\r\n$%d\r\n%s\r\n" % (len(SECRET), SECRET)
    assert said and said[0].startswith(login.encode())
    assert SECRET not in edge.text()
