"""A TCP proxy that does to a server's answers what networks and broken servers do.

    with FaultProxy(server.port) as proxy:
        proxy.fault = cut(17)       # of connections that are made from now on
        proxy.drop()                # ends those that there are

A fault is a function of a connection's Flow that is given each piece that the server sent; without one pieces
pass. Where it has a method `hears`, that is given what clients send, in the same way.
"""
import collections
import contextlib
import socket
import threading
import time


class Cut(Exception):
    """This connection ends here."""


class Flow:
    """Towards the client of one connection, or towards its server; `back` is the other way."""

    def __init__(self, client):
        self.client = client
        self.passed = 0
        self.back = self.begun = None

    def give(self, data):
        self.client.sendall(data)
        self.passed += len(data)


def whole(flow, data):
    flow.give(data)


def delay(seconds):
    def fault(flow, data):
        time.sleep(seconds)
        flow.give(data)
    return fault


def stall(flow, data):
    """Nothing comes, and nothing ends."""


def cut(at):
    """The connection ends behind its byte number `at`."""
    def fault(flow, data):
        flow.give(data[:max(0, at - flow.passed)])
        if flow.passed >= at:
            raise Cut
    return fault


class CutReplies:
    """A connection ends within the reply to a request that has `word` in it: behind the first of `cuts`, the next time
    behind the second, until a reply is shorter than that.
    """

    def __init__(self, word, cuts):
        self.word, self.cuts, self.made = word, collections.deque(cuts), []

    def hears(self, flow, data):
        if flow.back.begun is not None:  # all that was asked before is answered
            self.cuts.clear()
        flow.back.begun = flow.back.passed if self.word in data and self.cuts else None
        flow.give(data)

    def __call__(self, flow, data):
        if flow.begun is None:
            return flow.give(data)
        at = flow.begun + self.cuts[0]
        flow.give(data[:at - flow.passed])
        if flow.passed == at:
            self.made.append(self.cuts.popleft())
            raise Cut


def split(flow, data):
    """In single bytes, each a segment of its own."""
    flow.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(len(data)):
        flow.give(data[at:at + 1])
        if at % 64 == 0:
            time.sleep(0.001)


def replace(text, after=0):
    """`text` in place of what the server says behind byte number `after`, once."""
    def fault(flow, data):
        if flow.passed < after:
            flow.give(data[:after - flow.passed])
        if flow.passed == after:
            flow.give(text)
    return fault


def flood(head, piece, bytes_in_all, after=0):
    """A reply that does not end for a long time."""
    def fault(flow, data):
        if flow.passed < after:
            flow.give(data[:after - flow.passed])
        if flow.passed == after:
            flow.give(head)
            for _ in range(bytes_in_all // len(piece)):
                flow.give(piece)
    return fault


class FaultProxy:
    def __init__(self, port):
        self.target = port
        self.fault = whole
        self.refuses = False  # who connects is turned away
        self.made = 0         # connections, ever
        self.lock = threading.Lock()
        self.open = set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.ended = False
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def accept(self):
        while not self.ended:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.made += 1
            server = None
            if not self.refuses:
                with contextlib.suppress(OSError):
                    server = socket.create_connection(("127.0.0.1", self.target), 5)
            if server is None:
                client.close()
                continue
            server.settimeout(None)
            with self.lock:
                self.open |= {client, server}
            fault, there, back = self.fault, Flow(server), Flow(client)
            there.back, back.back = back, there
            for way in ((client, server, there, getattr(fault, "hears", whole)), (server, client, back, fault)):
                threading.Thread(target=self.pump, args=way, daemon=True).start()

    def pump(self, source, sink, flow, fault):
        with contextlib.suppress(OSError, Cut):
            while data := source.recv(65536):
                fault(flow, data)
        with self.lock:
            self.open -= {source, sink}
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def drop(self):
        """Ends all connections."""
        with self.lock:
            ends = list(self.open)
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def end(self):
        self.ended = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.drop()
