"""Many visitors over a few kept connections, on asyncio, since http.client would be the slowest part.

`Line` is one connection; `drive()` sends visitors down several of them at a given pace.
"""
import asyncio
import re

NAVIGATION = (b"GET %s HTTP/1.1\r\nHost: edge\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
              b"Accept: text/html\r\nSec-Fetch-Dest: document\r\nCookie: %s\r\n\r\n")
BEACON = (b"POST %s HTTP/1.1\r\nHost: edge\r\nContent-Type: application/json\r\nCookie: %s\r\n"
          b"Content-Length: %d\r\n\r\n%s")
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.I)
COOKIE = re.compile(rb"\r\nset-cookie: ([^=]+)=([^;\r]*)", re.I)


class Line:
    """One connection; a request at a time."""

    def __init__(self, port):
        self.port, self.reader, self.writer = port, None, None

    async def ask(self, request):
        """Status, {cookie: value} that it set, body."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        body = await self.reader.readexactly(int(length.group(1))) if length else b""
        if b"\r\nConnection: close" in head:
            self.close()
        return int(head[9:12]), dict(COOKIE.findall(head)), body

    def close(self):
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    async def open_page(self, path, cookies):
        status, fresh, body = await self.ask(NAVIGATION % (path, join(cookies)))
        assert status == 200, status
        cookies.update(fresh)
        return body

    async def reward(self, path, cookies, body):
        status, fresh, _ = await self.ask(BEACON % (path, join(cookies), len(body), body))
        assert status == 204, status
        cookies.update(fresh)


def join(cookies):
    return b"; ".join(name + b"=" + value for name, value in cookies.items())


def drive(port, visit, count, per_second, lines=16):
    """Awaits visit(line, number) for each of `count` visitors, in their order, at most so many a second."""
    async def run():
        loop = asyncio.get_running_loop()
        began, turn = loop.time(), iter(range(count))

        async def work():
            line = Line(port)
            for number in turn:
                wait = began + number / per_second - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                await visit(line, number)
            line.close()
        await asyncio.gather(*(work() for _ in range(lines)))
    asyncio.run(run())
