"""A name server of a test's own: `names` maps names to IPv4 addresses; nothing else exists."""
import socket
import threading


class NameServer:
    def __init__(self, **names):
        self.names = {name.replace("_", "."): address for name, address in names.items()}
        self.asked = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def serve(self):
        while True:
            try:
                query, client = self.socket.recvfrom(512)
                self.socket.sendto(self.answer(query), client)
            except OSError:
                return

    def answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        question, kind = query[12:at + 5], int.from_bytes(query[at + 1:at + 3], "big")
        name = ".".join(labels).lower()
        self.asked.append(name)
        address = self.names.get(name) if kind == 1 else None
        flags = b"\x81\x80" if name in self.names else b"\x81\x83"
        count = b"\0\1" if address else b"\0\0"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(address) if address else b""
        return query[:2] + flags + b"\0\1" + count + b"\0\0\0\0" + question + record
