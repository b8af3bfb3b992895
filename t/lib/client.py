"""HTTP as a browser, a script or an attacker speaks it."""
import http.client
import re
from dataclasses import dataclass, field

NAVIGATION = {"Accept": "text/html", "Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate",
              "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
SCRIPT = {"Accept": "*/*", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "cors", "User-Agent": NAVIGATION["User-Agent"]}


@dataclass
class Response:
    status: int
    headers: list
    body: bytes

    @property
    def text(self):
        return self.body.decode(errors="replace")

    def header(self, name, default=None):
        return next((v for k, v in self.headers if k.lower() == name.lower()), default)

    def all(self, name):
        return [v for k, v in self.headers if k.lower() == name.lower()]

    @property
    def cookies(self):
        return dict(line.split(";", 1)[0].split("=", 1) for line in self.all("Set-Cookie"))


def get(port, path="/", headers=None, method="GET", body=None, timeout=10):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return Response(answer.status, answer.getheaders(), answer.read())
    finally:
        connection.close()


@dataclass
class Browser:
    """Keeps cookies as a browser does; go() opens a page, fetch() is what its scripts do."""
    port: int
    cookies: dict = field(default_factory=dict)
    headers: dict = field(default_factory=dict)

    def request(self, path="/", headers=None, method="GET", body=None):
        sent = {**self.headers, **(headers or {})}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        answer = get(self.port, path, sent, method, body)
        self.cookies.update(answer.cookies)
        return answer

    def go(self, path="/", headers=None, **kwargs):
        return self.request(path, {**NAVIGATION, **(headers or {})}, **kwargs)

    def fetch(self, path="/", headers=None, **kwargs):
        return self.request(path, {**SCRIPT, **(headers or {})}, **kwargs)


def assignments(text):
    """{'checkout': 'green'} of an Experiment-Assignments value."""
    if text in (None, "", "none"):
        return {}
    return dict(re.match(r"\s*([a-z0-9-]+)=([a-z0-9-]+)", member).groups() for member in text.split(","))
