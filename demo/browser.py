"""As much of a web browser as the demo's visitors need: a cookie jar, stored pages with their ETags, navigations.

Connections are kept alive and shared by all visitors through a `Connections` pool, whose size bounds how much the demo
asks of the machine at once; nginx tells visitors apart by cookies only.
"""
import asyncio
from dataclasses import dataclass, field

NAVIGATION = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en\r\n"
    "Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-User: ?1\r\n"
)


@dataclass
class Response:
    status: int
    headers: dict  # lower-case name: value; the last one where a name repeats
    cookies: list  # (name, value) of every Set-Cookie
    body: bytes


class Connections:
    """A fixed number of keep-alive connections to one port of the loopback; opened when first used, again when lost."""

    def __init__(self, port, size):
        self.port = port
        self.waiting = 0  # page views that wait for a connection
        self._free = asyncio.LifoQueue()
        for _ in range(size):
            self._free.put_nowait(None)

    async def get(self, path, header_lines=""):
        """One GET. Raises ConnectionError or asyncio.IncompleteReadError when nginx breaks off twice running."""
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{header_lines}\r\n".encode("latin-1")
        self.waiting += 1
        try:
            streams = await self._free.get()
        finally:
            self.waiting -= 1
        try:
            if streams is not None:
                try:
                    return await self._exchange(streams, request)
                except (ConnectionError, asyncio.IncompleteReadError):
                    streams[1].close()  # closed while idle: worth a second try on a new one
            streams = None
            streams = await asyncio.open_connection("127.0.0.1", self.port)
            return await self._exchange(streams, request)
        except BaseException:  # a cancelled exchange leaves half an answer behind: never reuse it
            if streams is not None:
                streams[1].close()
            streams = None
            raise
        finally:
            self._free.put_nowait(streams)

    async def _exchange(self, streams, request):
        reader, writer = streams
        writer.write(request)
        status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        headers, cookies = {}, []
        for name, _, value in (line.partition(":") for line in lines):
            if name.lower() == "set-cookie":
                cookie, _, content = value.partition(";")[0].strip().partition("=")
                cookies.append((cookie, content))
            else:
                headers[name.lower()] = value.strip()
        status = int(status_line.split(" ")[1])
        return Response(status, headers, cookies, await self._body(reader, status, headers))

    @staticmethod
    async def _body(reader, status, headers):
        if status in (204, 304):
            return b""
        if headers.get("transfer-encoding") != "chunked":
            return await reader.readexactly(int(headers["content-length"]))
        chunks = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            chunks.append((await reader.readexactly(size + 2))[:-2])
        await reader.readexactly(2)
        return b"".join(chunks)


@dataclass
class Browser:
    connections: Connections
    jar: dict = field(default_factory=dict)
    stored: dict = field(default_factory=dict)  # path: (ETag, body), revalidated as `no-cache` asks

    async def navigate(self, path):
        """Opens a page. Returns (response, what is on the screen): a 304 shows the stored page."""
        lines = NAVIGATION
        if self.jar:
            lines += "Cookie: " + "; ".join(f"{name}={value}" for name, value in self.jar.items()) + "\r\n"
        if path in self.stored:
            lines += f"If-None-Match: {self.stored[path][0]}\r\n"
        response = await self.connections.get(path, lines)
        self.jar.update(response.cookies)
        if response.status == 304:
            return response, self.stored[path][1]
        caching = response.headers.get("cache-control", "")
        if response.status == 200 and "etag" in response.headers and "no-store" not in caching:
            self.stored[path] = (response.headers["etag"], response.body)
        return response, response.body
