"""An origin whose pages say which variants they were rendered for, with validators and bad moments."""
import hashlib
import re

from lib.client import assignments

KEYS = ("button", "hero", "shared")
DATE = "Mon, 02 Nov 2026 10:00:00 GMT"  # of every page: variants share it, as files and templates do
EDGE = "@@banner@@"  # filled in by the edge


def rendered(told):
    """{'button': 'green', ...} as the body spells it; what was not named is shown as "-"."""
    return " ".join(f"{key}={told.get(key, '-')}" for key in KEYS)


class Storefront:
    """Use as Backend.answer. All pages change with `version`; while `broken`, every answer is a 503."""

    def __init__(self, headers=()):
        self.headers = list(headers)
        self.version = 1
        self.broken = False
        self.pages = self.not_modified = 0

    def __call__(self, path, headers):
        if self.broken:
            return 503, [("Content-Type", "text/html")], b"broken"
        shown = rendered(assignments(headers.get("Experiment-Assignments")))
        body = f"page={path} version={self.version} {shown} banner={EDGE}"
        etag = '"%s"' % hashlib.md5(body.encode()).hexdigest()[:12]
        common = [("ETag", etag), ("Last-Modified", DATE), ("Accept-Ranges", "bytes"), *self.headers]
        asked = headers.get("If-None-Match", "")
        if asked == "*" or etag in asked or (not asked and headers.get("If-Modified-Since") == DATE):
            self.not_modified += 1
            return 304, common, b""
        self.pages += 1
        common.append(("Content-Type", "text/html"))
        if headers.get("Range") and headers.get("If-Range", etag) in (etag, DATE):
            begin = int(headers["Range"].removeprefix("bytes=").removesuffix("-"))
            common.append(("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}"))
            return 206, common, body[begin:].encode()
        return 200, common, body.encode()


PAGE = re.compile(r"page=(?P<path>\S+) version=(?P<version>\d+) (?P<shown>.*) banner=(?P<banner>\S*)$")


def read(text):
    """path, shown ("button=green hero=-...") and banner of a page."""
    match = PAGE.match(text)
    assert match, text[:300]
    return match["path"], match["shown"], match["banner"]
