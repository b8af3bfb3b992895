"""Many visitors on few connections: raw HTTP/1.1, kept alive and pipelined, thousands of requests a second.

A connection carries visitor after visitor, as one from a proxy does. The server must not close it:
`keepalive_requests 10000000;`.
"""
import socket

from lib.client import NAVIGATION, SCRIPT, Response


def head_lines(headers):
    return "".join(f"{k}: {v}\r\n" for k, v in headers.items())


KINDS = {"go": head_lines(NAVIGATION), "fetch": head_lines(SCRIPT), "bare": ""}


def request(path="/", cookies=None, headers=None, kind="go", method="GET", host="shop.test"):
    """The bytes of a request: "go" opens a page, "fetch" is a script's, "bare" says nothing of itself."""
    cookie = "; ".join(f"{k}={v}" for k, v in cookies.items()) if cookies else ""
    lines = KINDS[kind] + head_lines({"Cookie": cookie} if cookie else {}) + head_lines(headers or {})
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode()


class Connection:
    def __init__(self, port, timeout=20):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        data = self.socket.recv(65536)
        assert data, f"the server closed the connection, behind {self.buffer[-200:]!r}"
        self.buffer += data

    def until(self, mark):
        while (end := self.buffer.find(mark)) < 0:
            self.more()
        found, self.buffer = self.buffer[:end], self.buffer[end + len(mark):]
        return found

    def take(self, length):
        while len(self.buffer) < length:
            self.more()
        found, self.buffer = self.buffer[:length], self.buffer[length:]
        return found

    def chunks(self):
        body = b""
        while length := int(self.until(b"\r\n").split(b";")[0], 16):
            body += self.take(length)
            assert self.take(2) == b"\r\n"
        assert self.until(b"\r\n") == b""
        return body

    def receive(self, method="GET"):
        status_line, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        status = int(status_line[9:12])
        headers = [tuple(line.split(": ", 1)) if ": " in line else (line.rstrip(":"), "") for line in lines]
        answer = Response(status, headers, b"")
        if method == "HEAD" or status in (204, 304):
            return answer
        if answer.header("Transfer-Encoding") == "chunked":
            answer.body = self.chunks()
        else:
            answer.body = self.take(int(answer.header("Content-Length", 0)))
        return answer

    def close(self):
        self.socket.close()


class Load:
    """exchange() keeps all connections busy, so neighbours are in the server at the same time."""

    def __init__(self, port, connections=16):
        self.connections = [Connection(port) for _ in range(connections)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for connection in self.connections:
            connection.close()

    def exchange(self, requests, depth=4):
        """The answers to `requests`, in their order; at most `depth` are under way on a connection."""
        answers = []
        count = len(self.connections)
        for begin in range(0, len(requests), count * depth):
            batch = requests[begin:begin + count * depth]
            for i, connection in enumerate(self.connections):
                connection.send(b"".join(batch[i::count]))
            got = [None] * len(batch)
            for at, sent in enumerate(batch):
                got[at] = self.connections[at % count].receive(sent.split(b" ", 1)[0].decode())
            answers += got
        return answers
