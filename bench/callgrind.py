"""nginx under callgrind, and what it wrote down.

A request to /mark makes callgrind write down what it counted and begin anew, so a profile is of exactly the requests
between two marks. Timers are not counted.
"""
import pathlib
import re
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "t"))
import lib.edge  # noqa: E402
from lib.edge import ROOT, Edge  # noqa: E402,F401

# What malloc and free cost depends on what was freed long before; it is shown apart, with the number of calls.
HEAP = re.compile(r"malloc|^free$|_int_free|calloc|realloc|memalign|unlink_chunk|systrim")
ALLOCATES = re.compile(r"malloc|calloc|realloc|posix_memalign|memalign|aligned_alloc")
MARK = """
        location = /pid { return 200 "$pid"; }
        location = /mark { try_files "" @mark; }
        location @mark { return 204; }"""


class Measured(Edge):
    """An edge whose nginx runs under callgrind; its server has MARK."""

    def command(self, *args):
        return subprocess.run(["valgrind", "--tool=callgrind", "--trace-children=yes", "-q", "--compress-pos=no",
                               f"--callgrind-out-file={self.folder}/callgrind.%p",
                               "--toggle-collect=ngx_event_expire_timers", "--collect-atstart=yes",
                               "--dump-before=ngx_http_named_location",
                               lib.edge.NGINX, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"),
                               "-e", str(self.log), *args],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              text=True, timeout=120)

    def leader(self):
        lines = self.lines(r"definitions \d+ in use")
        return re.search(r"\[notice\] (\d+)#", lines[-1]).group(1) if lines else ""

    def profile(self, pid, part, requests):
        return Profile((self.folder / f"callgrind.{pid}.{part}").read_text(errors="replace"), requests)


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, path, headers=""):
        """Returns: the head and the body of the answer."""
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.receive()
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        while length and len(body) < int(length.group(1)):
            body += self.receive()
        return head.decode(), body.decode()

    def receive(self):
        data = self.socket.recv(65536)
        assert data, "nginx closed the connection"
        return data

    def close(self):
        self.socket.close()


class Profile:
    """Per request: own instructions by (object, function) and by (file, line), calls by function."""

    def __init__(self, text, requests):
        self.own, self.lines, self.calls = {}, {}, {}
        names, here, object_, file, callee, skip = {}, None, None, None, None, False

        def name(kind, text):
            number, _, said = text.partition(" ")
            if said:
                names[kind, number] = said
            return names.get((kind, number), text)

        for line in text.splitlines():
            key, found, value = line.partition("=")
            if not found:
                if line[:1].isdigit() and here and not skip:
                    number, count = (int(word) for word in line.split()[:2])
                    self.own[here] = self.own.get(here, 0) + count / requests
                    self.lines[file, number] = self.lines.get((file, number), 0) + count / requests
                skip = False
            elif key == "ob":
                object_ = pathlib.Path(name("ob", value)).name
            elif key == "fn":
                here = (object_, name("fn", value))
            elif key in ("fl", "fi", "fe"):
                file = name("fl", value)
            elif key in ("cfl", "cfi"):
                name("fl", value)
            elif key == "cob":
                name("ob", value)
            elif key == "cfn":
                callee = name("fn", value)
            elif key == "calls":
                self.calls[callee] = self.calls.get(callee, 0) + int(value.split()[0]) / requests
                skip = True  # the next line's cost is the callee's
        self.heap = sum(count for (_, function), count in self.own.items() if HEAP.search(function))
        self.cost = sum(self.own.values()) - self.heap
        self.mallocs = sum(count for function, count in self.calls.items() if ALLOCATES.fullmatch(function))
