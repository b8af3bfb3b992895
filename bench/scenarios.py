"""What bench/request_cost.py measures: groups of the same request, the first of each without what the others add."""
import pathlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from typing import Callable

from callgrind import Connection
from lib.edge import ROOT, document, experiment

ZONE = """
    experiment_zone zone=experiments:{size} state={folder}/state;
    experiment_unit account header=X-Account;
    experiment_unit visitor cookie=__Host-uid mint;
    experiment_types *;
    experiment_cohort_max 100000;
"""
BROWSER = ("User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
           "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
           "Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
           "Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n"
           "Sec-Fetch-Site: same-origin\r\nSec-Fetch-User: ?1\r\nPriority: u=0, i\r\n")
# Keeps connections; answers alike whether it was told a variant or not, so that only the telling is measured.
BACKEND = """
    keepalive_requests 1000000;
    map "$http_experiment_assignments$http_x_v0$http_x_v9" $told { default yes; "none" no_; "" no_; }
    server { listen 127.0.0.1:{port};
        location / { return 200 "$told"; }
        location /page { add_header ETag '"1"'; return 200 "$request_id"; } }
"""
UPSTREAM = "upstream app { server {backend}; keepalive 4; }\n"
PASS = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://app; '
CACHE = PASS + "proxy_cache pages; proxy_cache_valid 200 10m; "
UID = "visitor-of-22-letters_"


@dataclass
class Scenario:
    group: str
    name: str
    location: str  # text of `location /`
    before: str = ""  # text before the server
    zone: str = ""
    size: str = "8m"
    definitions: dict = None
    headers: Callable = lambda i: ""  # number of the request -> its header lines
    first: str = None  # headers of a request whose cookies all others send
    path: str = "/"
    expect: str = ".*"  # pattern of every answer's body
    sets: int = 0  # Set-Cookie lines of every answer
    cached: bool = False
    than: str = ""  # the scenario of the group that the ratio is to
    limit: float = None  # of that ratio
    modules: tuple = ()  # further ones to load
    loaded: bool = True
    windows: list = field(default_factory=list)  # Profiles

    def __str__(self):
        return f"{self.group}: {self.name}"

    @property
    def cost(self):
        return sorted(window.cost for window in self.windows)[len(self.windows) // 2]

    @property
    def spread(self):
        return max(window.cost for window in self.windows) - min(window.cost for window in self.windows)

    def sent(self, port):
        """The headers of each request; makes the first one where cookies are wanted."""
        if self.first is None:
            return self.headers
        connection = Connection(port)
        head, _ = connection.ask(self.path, self.first)
        connection.close()
        pairs = [line[12:].split(";")[0] for line in head.split("\r\n") if line.lower().startswith("set-cookie: ")]
        cookie = f"Cookie: {'; '.join(pairs + [f'uid={UID}'] * ('uid=' + UID in self.first))}\r\n"
        return lambda i: self.headers(i) + cookie


def new(i):
    return f"X-Account: visitor-{i:07d}\r\n"


def again(i):
    return f"X-Account: visitor-{i % 16:07d}\r\n"


def browsing(i):
    return again(i) + BROWSER


def known(i):
    return BROWSER + f"Cookie: uid={UID}\r\n"


def split(count, key="$http_x_account"):
    return "".join(f'split_clients "{key}" $v{i} {{ 50% a; * b; }}\n' for i in range(count))


def values(prefix, count):
    return "".join(f"${prefix}{i}" for i in range(count))


def say(prefix, count):
    return f'return 200 "{values(prefix, count)}";'


def experiments(count, unit="account", **fields):
    return document(*(experiment(f"e{i}", ("a", "b"), unit=unit, **fields) for i in range(count)))


LIMITS = {1: 1.3, 10: 0.65}


def returns():
    group = "return"
    yield Scenario(group, "plain", 'return 200 "ok";', headers=again)
    yield Scenario(group, "module not loaded", 'return 200 "ok";', headers=again, loaded=False)
    yield Scenario(group, "zone, nothing placed", 'return 200 "ok";', zone=ZONE, definitions=document(), headers=again)
    yield Scenario(group, "constant header", 'add_header X-V a; return 200 "ok";', headers=again)
    for count in (1, 10):
        yield Scenario(group, f"split_clients {count}", say("v", count), split(count), headers=again,
                       expect="[ab]" * count)
        empty = empty_prefix_module()
        if empty:
            yield Scenario(group, f"empty prefix variables {count}", say("empty_", count), headers=again,
                           expect="a" * count, than=f"split_clients {count}", modules=(empty,))
    for count in (1, 10):
        ours = dict(location="experiment all; " + say("variant_e", count), zone=ZONE, definitions=experiments(count),
                    expect="[ab]" * count, than=f"split_clients {count}")
        yield Scenario(group, f"experiments {count}, new visitor", headers=new, **ours)
        yield Scenario(group, f"experiments {count}, returning visitor", headers=again, limit=LIMITS[count], **ours)
    yield Scenario(group, "split_clients 3", say("v", 3), split(3), headers=again, expect="[ab]{3}")
    for defined in (3, 1000):
        yield Scenario(group, f"experiments 3 of {defined}, returning visitor", "experiment e0 e1 e2; " +
                       say("variant_e", 3), zone=ZONE, size="24m", definitions=experiments(defined), headers=again,
                       expect="[ab]{3}", than="split_clients 3")


def idle():
    group = "nothing applies"
    same = dict(zone=ZONE, headers=again)
    yield Scenario(group, "zone, no experiment", 'return 200 "ok";', definitions=document(), **same)
    yield Scenario(group, "1,000 experiments, none placed", 'return 200 "ok";', size="24m",
                   definitions=experiments(1000), **same)
    for desired in ("draft", "stopped"):
        yield Scenario(group, f"one placed, {desired}", 'experiment all; return 200 "ok";',
                       definitions=experiments(1, desired=desired), **same)
    yield Scenario(group, "ten placed, draft", 'experiment all; return 200 "ok";',
                   definitions=experiments(10, desired="draft"), **same)
    yield Scenario(group, "plain", 'return 200 "ok";', headers=again)


def browser():
    group = "browser's headers"
    yield Scenario(group, "plain", 'return 200 "ok";', headers=browsing)
    for count in (1, 10):
        yield Scenario(group, f"split_clients {count}", say("v", count), split(count), headers=browsing,
                       expect="[ab]" * count)
        yield Scenario(group, f"experiments {count}", "experiment all; " + say("variant_e", count), zone=ZONE,
                       definitions=experiments(count), headers=browsing, expect="[ab]" * count,
                       than=f"split_clients {count}")


def backend():
    group = "headers to a backend"
    yield Scenario(group, "plain", PASS, UPSTREAM, headers=again, expect="no_")
    for count in (1, 10):
        told = "".join(f"proxy_set_header X-V{i} $v{i}; " for i in range(count))
        yield Scenario(group, f"split_clients {count}", told + PASS, UPSTREAM + split(count), headers=again,
                       expect="yes")
        yield Scenario(group, f"experiments {count}", "experiment all; " + PASS, UPSTREAM, zone=ZONE,
                       definitions=experiments(count), headers=again, expect="yes", than=f"split_clients {count}",
                       limit={1: None, 10: 0.9}[count])


def ours_with_memory(count):
    return dict(location="experiment all; " + say("variant_e", count), zone=ZONE, size="16m",
                definitions=experiments(count, "visitor"), expect="[ab]" * count, than=f"split_clients {count}")


def cookies():
    for count in (1, 5, 10):
        group = f"cookie of {count} verified"
        # One as long as ours that nobody reads.
        length = (18 + 16 * count) * 4 // 3 + 1
        headers = lambda i, cookie=f"Cookie: exp={'x' * length}; uid={UID}\r\n": BROWSER + cookie
        yield Scenario(group, "plain", 'return 200 "ok";', headers=headers)
        yield Scenario(group, f"split_clients {count}", say("v", count), split(count, "$cookie_uid"),
                       headers=headers, expect="[ab]" * count)
        yield Scenario(group, f"experiments {count}", headers=lambda i: BROWSER, first=known(0),
                       **ours_with_memory(count))
    group = "cookie written"
    yield Scenario(group, "plain", 'return 200 "ok";', headers=known)
    for count in (1, 5, 10):
        yield Scenario(group, f"split_clients {count}", say("v", count), split(count, "$cookie_uid"), headers=known,
                       expect="[ab]" * count)
        yield Scenario(group, f"experiments {count}", headers=known, sets=1, **ours_with_memory(count))


def first_visit():
    group = "first visit"
    browser = lambda i: BROWSER
    yield Scenario(group, "plain", 'return 200 "ok";', headers=browser)
    yield Scenario(group, "userid on", 'return 200 "$uid_set";', "userid on; userid_name uid;\n", headers=browser,
                   sets=1)
    for count in (1, 10):
        yield Scenario(group, f"userid on, split_clients {count}", say("v", count), "userid on; userid_name uid;\n" +
                       split(count, "$uid_set"), headers=browser, expect="[ab]" * count, sets=1)
        yield Scenario(group, f"experiments {count}, unit minted", "experiment all; " + say("variant_e", count),
                       zone=ZONE, definitions=experiments(count, "visitor"), headers=browser,
                       expect="[ab]" * count, sets=2, than=f"userid on, split_clients {count}")


def cached():
    group = "cached page"
    same = dict(headers=again, path="/page", expect="[0-9a-f]{32}", cached=True)
    yield Scenario(group, "plain", CACHE + "proxy_cache_key $uri;", UPSTREAM, **same)
    for count in (1, 10):
        yield Scenario(group, f"split_clients {count}", CACHE + f"proxy_cache_key {values('v', count)}$uri;",
                       UPSTREAM + split(count), **same)
        for how, key in (("isolated by itself", "$uri"), ("in the key", "$experiment_cache_key$uri")):
            yield Scenario(group, f"experiments {count}, {how}", f"experiment all; {CACHE} proxy_cache_key {key};",
                           UPSTREAM, zone=ZONE, definitions=experiments(count), than=f"split_clients {count}", **same)


LUA = """
    lua_shared_dict counts 1m;
    init_by_lua_block {
        function pick(name, count)
            local arm = ngx.crc32_short(ngx.var.http_x_account .. name) < 2147483648 and "a" or "b"
            if count then ngx.shared.counts:incr(name .. arm, 1, 0) end
            return arm
        end
    }
"""
JS = """
function pick(r, name) {
    const text = r.headersIn['X-Account'] + name;
    let h = 2166136261;
    for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 16777619);
    return h < 0 ? 'a' : 'b';
}
export default {NAMES};
"""


def for_the_record(folder):
    """Of other modules, where they are installed."""
    group = "for the record"
    modules = pathlib.Path("/usr/lib/nginx/modules")
    lua = [modules / "ndk_http_module.so", modules / "ngx_http_lua_module.so"]
    js = [modules / "ngx_http_js_module.so"]
    yield Scenario(group, "plain", 'return 200 "ok";', headers=again)
    for count in (1, 10):
        yield Scenario(group, f"split_clients {count}", say("v", count), split(count), headers=again,
                       expect="[ab]" * count)
        same = dict(headers=again, expect="[ab]" * count, than=f"split_clients {count}")
        if all(path.exists() for path in lua):
            for how, counts in (("", "false"), (", shared dictionary", "true")):
                sets = "".join(f"set_by_lua_block $v{i} {{ return pick('e{i}', {counts}) }} " for i in range(count))
                yield Scenario(group, f"set_by_lua {count}{how}", sets + say("v", count), LUA, modules=lua, **same)
        if all(path.exists() for path in js):
            names = ", ".join(f"v{i}: r => pick(r, 'e{i}')" for i in range(count))
            script = folder / f"pick{count}.js"
            script.write_text(JS.replace("NAMES", names))
            yield Scenario(group, f"njs {count}", say("v", count), f"js_import main from {script};\n" + "".join(
                f"js_set $v{i} main.v{i};\n" for i in range(count)), modules=js, **same)


built = None


def empty_prefix_module():
    """Compiles it once, against the tree of the module's build. Returns: its path, None without that tree."""
    global built
    tree = ROOT / "build" / "nginx"
    if built is None and (tree / "objs" / "ngx_auto_config.h").exists():
        folder = tempfile.TemporaryDirectory(prefix="request-cost-")
        target = pathlib.Path(folder.name) / "empty.so"
        include = [f"-I{tree}/{part}" for part in ("src/core", "src/event", "src/event/modules", "src/os/unix", "objs",
                                                   "src/http", "src/http/modules", "src/http/v2")]
        subprocess.run([shutil.which("cc"), "-shared", "-fPIC", "-O2", *include, "-o", target,
                        pathlib.Path(__file__).parent / "empty_prefix_module.c"], check=True)
        built = folder, target
    return built and built[1]


def scenarios():
    for group in (returns, idle, browser, backend, cookies, first_visit, cached):
        yield from group()
