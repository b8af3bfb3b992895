"""Requests that nobody's browser sends: answered or refused, and never at a worker's cost."""
import socket

import pytest
from lib.client import get
from lib.edge import document, experiment

CONF = """
    add_header X-Variant $variant_button always;
    server {
        listen 127.0.0.1:{port};
        ignore_invalid_headers off;
        underscores_in_headers on;
        experiment all;
        location / { root {folder}/www; experiment_reward purchase; }
        location = /back { proxy_pass http://{backend}; }
    }
"""
DOCUMENT = document(experiment("button"))


def send(port, text):
    """Whatever comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(text)
        answer = b""
        while part := sock.recv(65536):
            answer += part
    return answer


@pytest.fixture
def edge(edges, backend):
    made = edges(CONF, DOCUMENT, backend=backend, workers=1, start=False)
    (made.folder / "www").mkdir()
    (made.folder / "www" / "index.html").write_text("page")
    made.start()
    return made


@pytest.mark.parametrize("tags", ['""' * 1900, '"a"' * 1300, '",' * 1900, '"x;exp=-"' * 400, 'W/' * 1900, '"' * 3999,
                                  ';exp="' * 600])
@pytest.mark.parametrize("header", ["If-None-Match", "If-Match", "If-Range"])
def test_lists_of_tags_that_a_client_made_up(edge, header, tags):
    for _ in range(5):
        answer = send(edge.port, f"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nConnection: close\r\n"
                                 f"Range: bytes=0-1\r\n{header}: {tags}\r\n\r\n".encode())
        assert answer[9:12] in (b"200", b"206", b"412"), answer[:200]
    assert not edge.lines("exited on signal")


@pytest.mark.parametrize("text", [b"GET /\r\n", b"\0\1\2\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
                                  b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                                  b"GET " + b"/x" * 20000 + b" HTTP/1.1\r\n\r\n",
                                  b"GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
                                  b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"exp=;" * 9000 + b"\r\n\r\n"])
def test_requests_that_nginx_refuses_itself(edge, text):
    send(edge.port, text)
    assert get(edge.port, "/").status == 200
    assert not edge.lines("exited on signal")


@pytest.mark.parametrize("name", ["Experiment-Cohort", "experiment_cohort", "EXPERIMENT.COHORT", "Experiment~Cohort"])
def test_no_spelling_of_our_headers_gets_through(edge, backend, name):
    other = "".join(f"X-{n}: {n}\r\n" for n in range(30))  # more than one part of nginx's list
    forged = f"{name}: forged\r\n"
    answer = send(edge.port, f"GET /back HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                             f"{forged}{other}{forged}{other}{forged}\r\n".encode())
    assert answer[9:12] == b"200" and b"forged" not in answer
    _, headers = backend.requests[-1]
    assert "forged" not in str(headers)
    assert len([key for key in headers.keys() if key.startswith("X-")]) == 60  # and nothing else went with them
    assert headers.get_all("Experiment-Cohort") == ["-"]


def test_a_cookie_of_another_case_hides_nobodys(edge):
    def is_minted(cookie):
        answer = send(edge.port, f"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nConnection: close\r\n"
                                 f"Cookie: {cookie}\r\n\r\n".encode())
        return b"Set-Cookie: uid=" in answer

    assert not is_minted("uid=me") and not is_minted("UID=other; uid=me") and not is_minted("a=1; Uid=; uid=me; uid=b")
    assert is_minted("UID=other") and is_minted("xuid=other; uid =; uid")
