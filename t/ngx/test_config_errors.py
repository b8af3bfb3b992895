"""nginx.conf: each directive misused gives one line that says what stands there and what was expected."""
import json
import os
import re
import signal

import pytest
from lib.client import get
from lib.edge import document, experiment

EMERG = r"\[emerg\]"
UNIT = "experiment_unit visitor cookie=uid mint;"
ZONE = "experiment_zone zone=e:8m state={folder}/state;"
KEY = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
SERVER = "server { listen 127.0.0.1:{port}; %s location / { experiment all; return 200; } }"


def main(text):
    return {"zone": ZONE + UNIT + "\n" + text}


def server(text):
    return {"zone": ZONE + UNIT, "http": SERVER % ("\n" + text)}


def location(text):
    return server("location /x { " + text + " }")


def zone(text):
    return {"zone": UNIT + "\n" + text}


MISUSED = [
    # experiment_zone
    (zone("experiment_zone;"), 'invalid number of arguments in "experiment_zone"'),
    (zone("experiment_zone zone=e:8m;"), 'invalid number of arguments in "experiment_zone"'),
    (zone("experiment_zone zone=e:8m filter=1m;"),
     '"experiment_zone" lacks "state=", expected zone=NAME:SIZE state=DIR'),
    (zone("experiment_zone state=/tmp/x filter=1m;"),
     '"experiment_zone" lacks "zone=", expected zone=NAME:SIZE state=DIR'),
    (zone("experiment_zone zone=e state=s;"), '"zone=e" in "experiment_zone", expected zone=NAME:SIZE'),
    (zone("experiment_zone zone=:8m state=s;"), '"zone=:8m" in "experiment_zone", expected zone=NAME:SIZE'),
    (zone("experiment_zone zone=e: state=s;"), '"zone=e:" in "experiment_zone", expected zone=NAME:SIZE'),
    (zone("experiment_zone zone=e:lots state=s;"),
     '"zone=e:lots" in "experiment_zone", expected zone=NAME:SIZE'),
    (zone("experiment_zone zone=e:-8m state=s;"),
     '"zone=e:-8m" in "experiment_zone", expected zone=NAME:SIZE'),
    (zone("experiment_zone zone=e:8m state=;"), '"state=" in "experiment_zone", expected state=DIRECTORY'),
    (zone("experiment_zone zone=e:8m state=s filter=1k;"),
     '"filter=1k" in "experiment_zone", expected filter=SIZE of at'),
    (zone("experiment_zone zone=e:8m state=s filter=x;"),
     '"filter=x" in "experiment_zone", expected filter=SIZE of at'),
    (zone("experiment_zone zone=e:8m state=s size=1;"),
     '"size=1" in "experiment_zone", expected zone=NAME:SIZE, state='),
    (zone("experiment_zone zone=e:8m zone=f:8m state=s;"),
     '"zone=f:8m" in "experiment_zone", expected each parameter once'),
    (zone("experiment_zone zone=e:8m state=s state=t;"),
     '"state=t" in "experiment_zone", expected each parameter once'),
    (zone(ZONE + ZONE.replace("=e:", "=f:")), '"experiment_zone" directive is duplicate'),
    (zone("experiment_zone zone=e:16k state={folder}/state;"),
     'experiment_zone "e" is too small: 16384 bytes, expected'),
    (server("experiment_zone zone=f:8m state=s;"), '"experiment_zone" directive is not allowed here'),
    # experiment_unit
    (main("experiment_unit;"), 'invalid number of arguments in "experiment_unit"'),
    (main("experiment_unit account;"), 'invalid number of arguments in "experiment_unit"'),
    (main("experiment_unit Account cookie=a;"),
     '"Account" in "experiment_unit", expected a name of the form'),
    (main("experiment_unit visitor cookie=a;"),
     '"visitor" in "experiment_unit", expected a name that no other unit has'),
    (main("experiment_unit account cookie=;"),
     '"cookie=" in "experiment_unit", expected cookie=NAME, header=NAME'),
    (main("experiment_unit account 'cookie=a b';"),
     '"cookie=a b" in "experiment_unit", expected a cookie name'),
    (main("experiment_unit account 'cookie=a;b';"),
     '"cookie=a;b" in "experiment_unit", expected a cookie name'),
    (main("experiment_unit account header=;"),
     '"header=" in "experiment_unit", expected cookie=NAME, header=NAME'),
    (main("experiment_unit account 'header=X Y';"),
     '"header=X Y" in "experiment_unit", expected a header name'),
    (main("experiment_unit account $;"), '"\\$" in "experiment_unit", expected cookie=NAME, header=NAME'),
    (main("experiment_unit account $no_such;"), 'unknown "no_such" variable'),
    (main("experiment_unit account arg=id;"),
     '"arg=id" in "experiment_unit", expected cookie=NAME, header=NAME'),
    (main("experiment_unit account mint x;"), '"x" in "experiment_unit", expected cookie=NAME, header=NAME'),
    (main("experiment_unit account mint mint;"),
     '"account" in "experiment_unit", expected a source behind it'),
    (main("experiment_unit account header=X-A mint;"),
     '"account" in "experiment_unit", expected a cookie=NAME source to mint'),
    (server("experiment_unit account cookie=a;"), '"experiment_unit" directive is not allowed here'),
    # experiment_keys, experiment_kill_file
    (main("experiment_keys;"), 'invalid number of arguments in "experiment_keys"'),
    (main("experiment_keys {folder}/keys {folder}/keys;"),
     'invalid number of arguments in "experiment_keys"'),
    (main("experiment_keys {folder}/absent;"),
     r'"experiment_keys" \S+/absent: No such file or directory; expected a file'),
    (main("experiment_keys {folder};"), r'"experiment_keys" \S+: not a regular file; expected a file'),
    (main("experiment_kill_file;"), 'invalid number of arguments in "experiment_kill_file"'),
    (main("experiment_kill_file a; experiment_kill_file b;"),
     '"experiment_kill_file" directive is duplicate'),
    (server("experiment_kill_file a;"), '"experiment_kill_file" directive is not allowed here'),
    # experiment
    (server("experiment;"), 'invalid number of arguments in "experiment"'),
    (server("experiment Button;"),
     '"Button" in "experiment", expected an experiment key, "prefix-\\*", "all" or "off"'),
    (server("experiment button none;"), '"none" in "experiment", expected an experiment key'),
    (server("experiment *;"), '"\\*" in "experiment", expected an experiment key'),
    (server("experiment a*b;"), '"a\\*b" in "experiment", expected an experiment key'),
    (server("experiment 'a b';"), '"a b" in "experiment", expected an experiment key'),
    (server("experiment '';"), '"" in "experiment", expected an experiment key'),
    (server("experiment button off;"), '"off" in "experiment", expected "off" alone'),
    (server("experiment off button;"), '"off" in "experiment", expected "off" alone'),
    (server("experiment a; experiment b;"), '"experiment" directive is duplicate'),
    (server("experiment off; experiment b;"), '"experiment" directive is duplicate'),
    # the rest
    (server("experiment_types;"), 'invalid number of arguments in "experiment_types"'),
    (server("experiment_exposure;"), 'invalid number of arguments in "experiment_exposure"'),
    (server("experiment_exposure maybe;"),
     '"maybe" in "experiment_exposure", expected "on", "off" or a \\$variable'),
    (server("experiment_exposure $no_such;"), 'unknown "no_such" variable'),
    (server("experiment_exposure on; experiment_exposure off;"),
     '"experiment_exposure" directive is duplicate'),
    (main("experiment_keys {folder}/keys; experiment_keys {folder}/keys;"),
     '"experiment_keys" directive is duplicate'),
    (server("experiment_isolation;"), 'invalid number of arguments in "experiment_isolation"'),
    (server("experiment_isolation public;"),
     '"public" in "experiment_isolation", expected "private", "tagged" or "off"'),
    (server("experiment_isolation off; experiment_isolation off;"),
     '"experiment_isolation" directive is duplicate'),
    (server("experiment_cache;"), 'invalid number of arguments in "experiment_cache"'),
    (server("experiment_cache maybe;"),
     'invalid value "maybe" in "experiment_cache" directive, it must be "on" or "off"'),
    (server("experiment_cache on; experiment_cache on;"), '"experiment_cache" directive is duplicate'),
    (server("experiment_cohort_max 0;"),
     '"0" in "experiment_cohort_max", expected a number from 1 to 100000'),
    (server("experiment_cohort_max 100001;"),
     '"100001" in "experiment_cohort_max", expected a number from 1 to 100000'),
    (server("experiment_cohort_max many;"),
     '"many" in "experiment_cohort_max", expected a number from 1 to 100000'),
    (server("experiment_cookie;"), 'invalid number of arguments in "experiment_cookie"'),
    (server("experiment_cookie 'a b';"), '"a b" in "experiment_cookie", expected a cookie name'),
    (server("experiment_cookie a=b;"), '"a=b" in "experiment_cookie", expected a cookie name'),
    (server("experiment_cookie a domain=;"), '"domain=" in "experiment_cookie", expected domain=HOST'),
    (server("experiment_cookie a 'domain=x;Secure';"),
     '"domain=x;Secure" in "experiment_cookie", expected domain=HOST'),
    (server("experiment_cookie a secure=maybe;"),
     '"secure=maybe" in "experiment_cookie", expected secure=auto, on, off or'),
    (server("experiment_cookie a secure=$no_such;"), 'unknown "no_such" variable'),
    (server("experiment_cookie a samesite=lax;"),
     '"samesite=lax" in "experiment_cookie", expected samesite=Lax, Strict'),
    (server("experiment_cookie a max_age=0;"),
     '"max_age=0" in "experiment_cookie", expected max_age=TIME from 1s'),
    (server("experiment_cookie a max_age=396d;"),
     '"max_age=396d" in "experiment_cookie", expected max_age=TIME'),
    (server("experiment_cookie a max_age=soon;"),
     '"max_age=soon" in "experiment_cookie", expected max_age=TIME'),
    (server("experiment_cookie a path=/;"), '"path=/" in "experiment_cookie", expected domain=, secure='),
    (server("experiment_cookie __Host-a domain=x.org;"),
     '"__Host-a" in "experiment_cookie", expected a name without __Host-'),
    (server("experiment_cookie a; experiment_cookie b;"), '"experiment_cookie" directive is duplicate'),
    (server("experiment_reward purchase;"), '"experiment_reward" directive is not allowed here'),
    (location("experiment_reward;"), 'invalid number of arguments in "experiment_reward"'),
    (location("experiment_reward Purchase;"), '"Purchase" in "experiment_reward", expected a goal key'),
    (location("experiment_reward purchase sum=1;"),
     '"sum=1" in "experiment_reward", expected value=VALUE or id=VALUE'),
    (location("experiment_reward purchase value=;"),
     '"value=" in "experiment_reward", expected value=VALUE or id=VALUE'),
    (location("experiment_reward purchase id=1 id=2;"),
     '"id=2" in "experiment_reward", expected value=VALUE or id=VALUE'),
    (location("experiment_reward purchase value=$no_such;"), 'unknown "no_such" variable'),
    (location("experiment_reward purchase; experiment_reward purchase;"),
     '"purchase" in "experiment_reward", expected each'),
    (location("experiment_beacon on;"), 'invalid number of arguments in "experiment_beacon"'),
    (server("experiment_beacon;"), '"experiment_beacon" directive is not allowed here'),
    (location("experiment_metrics on;"), 'invalid number of arguments in "experiment_metrics"'),
    (server("experiment_metrics;"), '"experiment_metrics" directive is not allowed here'),
    # what belongs together
    ({"zone": ZONE}, '"experiment_zone" needs at least one "experiment_unit", such as "experiment_unit visitor cookie='),
] + [
    ({"zone": "", "http": "server { listen 127.0.0.1:{port}; %s }" % text},
     'experiment directives are used without "experiment_zone": expected "experiment_zone')
    for text in ("experiment all;", "experiment off;", "experiment_types text/plain;", "experiment_exposure on;",
                  "experiment_isolation off;", "experiment_cache on;", "experiment_cohort_max 8;", "experiment_cookie a;",
                  "location /a { experiment_reward purchase; }", "location /a { experiment_beacon; }",
                  "location /a { experiment_metrics; }")] + [
    ({"zone": text, "http": "server { listen 127.0.0.1:{port}; }"},
     'experiment directives are used without "experiment_zone"')
    for text in (UNIT, "experiment_kill_file k;", "experiment_keys {folder}/keys;")]


def refusal(edge):
    """The one [emerg] line of `nginx -t`, with the exit code checked."""
    done = edge.test()
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if "[emerg]" in line]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize("conf, expected", MISUSED, ids=lambda v: None if isinstance(v, dict) else v)
def test_misuse_is_one_clear_line(edges, conf, expected):
    edge = edges(conf.get("http", SERVER % ""), zone=conf["zone"], start=False, allowed=EMERG)
    (edge.folder / "keys").write_text(KEY + "\n")
    line = refusal(edge)
    assert re.search(expected, line), line
    # nginx knows no line for what is only missed at the end of the file.
    if not re.search(r'unknown "|needs at least one|are used without|is too small', expected):
        assert re.search(r" in \S+nginx\.conf:\d+$", line), line


@pytest.mark.parametrize("text, expected", [
    ("", "no key, expected a line of 64 hex digits"),
    ("# nothing here\n\n", "no key, expected a line of 64 hex digits"),
    (KEY[:-1] + "\n", "line 1: 63 hex digits, expected a key of 64 hex digits"),
    (KEY + "a\n", "line 1: 65 hex digits, expected a key of 64 hex digits"),
    (KEY + "\n" + OTHER[:30] + "x" + OTHER[31:],
     "line 2: character 31 is not a hex digit, expected a key of 64 hex digits"),
    ("# first\n" + KEY + "\n" + KEY + " # again\n", r"line 3: key id \d+ is that of line 2 too, expected another key"),
    (KEY + " " + OTHER, "line 1: character 65 is not a hex digit"),
])
def test_a_bad_key_file_is_named_and_never_shown(edges, text, expected):
    edge = edges(SERVER % "", zone=ZONE + UNIT + "experiment_keys {folder}/keys;", start=False, allowed=EMERG)
    (edge.folder / "keys").write_text(text)
    line = refusal(edge)
    assert re.search(r'"experiment_keys" \S+/keys: ' + expected, line), line
    for key in (KEY, OTHER):
        assert not any(key[i:i + 6] in line + edge.text() for i in range(len(key) - 6))


@pytest.mark.parametrize("size, directive", [("64k", ""), ("128k", ""), ("1m", "filter=1m"), ("8m", "filter=8m"),
                                             ("8m", "filter=1024m")])
def test_a_zone_too_small_says_what_it_needs_and_that_works(edges, size, directive):
    text = "experiment_zone zone=e:{size} state={folder}/state %s; %s" % (directive, UNIT)
    edge = edges(SERVER % "", zone=text, size=size, start=False, allowed=EMERG)
    line = refusal(edge)
    found = re.search(r'experiment_zone "e" is too small: \d+ bytes, expected at least (\d+) for filter=(\d+)', line)
    assert found, line
    if found.group(2) != str(1 << 30):
        enough = (int(found.group(1)) + 8191) // 4096 * 4096
        named = f"experiment_zone zone=e:{enough} state={edge.state} filter={found.group(2)}; {UNIT}"
        edge.configure(SERVER % "", zone=named)
        assert edge.test().returncode == 0, edge.test().stderr


def listing(folder):
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in folder.rglob("*")}


def test_a_test_of_the_configuration_makes_nothing(edges):
    edge = edges(SERVER % "", zone=ZONE + UNIT + "experiment_kill_file {folder}/kill;", start=False)
    edge.state.rmdir()
    assert edge.test().returncode == 0
    assert not edge.state.exists() and not edge.kill_file.exists()


def test_a_test_beside_a_running_server_changes_nothing(edges):
    edge = edges("server { listen 127.0.0.1:{port}; location / { experiment all; return 200 $variant_button; }"
                 " location = /metrics { experiment_metrics; } }", document(experiment("button", unit="account")))
    for unit in range(20):
        get(edge.port, "/", {"X-Account": str(unit)})
    edge.wait(lambda: any(edge.state.glob("counters/*.json")))
    edge.wait(lambda: len(set(edge.children())) == 4)  # two workers, the cache's manager and loader
    before = listing(edge.state), edge.metrics(), set(edge.children())
    assert edge.test().returncode == 0
    assert (listing(edge.state), edge.metrics(), set(edge.children())) == before
    assert [k for k, v in edge.metrics().items() if 'exposures_total' in k and v]


# --- reloads ---
WHICH = """server { listen 127.0.0.1:{port};
                    location / { experiment all; add_header X-Which "%s"; return 200 "$variant_button"; } }"""
LAYOUT = "experiment_zone zone=e:{size} state={folder}/state filter=%s;" + UNIT


@pytest.mark.parametrize("change, expected", [
    ({"http": WHICH % "new" + " server { experiment Bad; }"}, '"Bad" in "experiment", expected'),
    ({"http": WHICH % "new", "zone": LAYOUT % "2m"},
     'experiment_zone "e" cannot be taken over: it has filter=1048576, expected '
     r"2097152 \(a filter is resized together with its zone\); the old configuration stays in use"),
    ({"http": WHICH % "new", "size": "64k"}, 'experiment_zone "e" is too small: 65536 bytes'),
    ({"http": WHICH % "new", "zone": LAYOUT % "1m" + "experiment_keys {folder}/absent;"},
     '"experiment_keys" .*/absent: No such file'),
    ({"http": WHICH % "new", "zone": LAYOUT.replace(UNIT, "") % "1m"}, 'needs at least one "experiment_unit"'),
], ids=["directive", "filter", "zone", "keys", "unit"])
def test_a_bad_reload_leaves_the_old_configuration_serving(edges, change, expected):
    edge = edges(WHICH % "old", document(experiment("button", unit="visitor")), zone=LAYOUT % "1m", allowed=EMERG)
    page = {"Accept": "text/html", "Cookie": "uid=somebody"}
    before = get(edge.port, "/", page)
    assert before.header("X-Which") == "old" and before.text in ("control", "green")
    workers = edge.wait(lambda: len(found := set(edge.worker_pids())) == edge.workers and found)
    edge.configure(**change)
    edge.send(signal.SIGHUP)
    assert len(edge.wait_log(EMERG)) == 1
    assert re.search(expected, edge.lines(EMERG)[0]), edge.lines(EMERG)
    after = get(edge.port, "/", page)
    assert (after.header("X-Which"), after.text) == ("old", before.text)
    assert set(edge.worker_pids()) == workers
    assert edge.lines(EMERG) == edge.lines(EMERG)[:1]
    # And the next good one is taken.
    edge.configure(WHICH % "new", zone=LAYOUT % "1m", size="8m")
    edge.reload()
    assert (get(edge.port, "/", page).header("X-Which"), get(edge.port, "/", page).text) == ("new", before.text)


def test_a_zone_of_another_size_starts_from_the_store(edges):
    """Nothing is lost: the epoch is the same one, and the totals of both zones add up."""
    conf = """server { listen 127.0.0.1:{port};
                       location / { experiment all; return 200 "$variant_button $experiment_epoch_button"; } }"""
    edge = edges(conf, document(experiment("button", unit="account")))
    told = {unit: get(edge.port, "/", {"X-Account": unit}).text for unit in map(str, range(30))}
    edge.configure(conf, size="12m")
    edge.reload()
    # The old ones wrote what they counted.
    edge.wait(lambda: not any(b"shutting down" in edge.title(pid) for pid in edge.children()))
    for unit in map(str, range(30, 50)):
        get(edge.port, "/", {"X-Account": unit})
    assert {unit: get(edge.port, "/", {"X-Account": unit}).text for unit in told} == told
    assert edge.lines('"button": epoch') == edge.lines('"button": epoch')[:1]
    edge.stop()
    # The filter of the new zone knows nobody: units without a cookie count again.
    assert exposures(edge) == {"button": 80}


def exposures(edge):
    told = json.loads(edge.ctl("status", "--json", check=True).stdout)["experiments"]
    return {e["key"]: sum(v["exposures"] for v in e["variants"]) for e in told}


def test_unreadable_keys_are_refused_by_name(edges):
    if os.getuid() == 0:
        pytest.skip("root reads everything")
    edge = edges(SERVER % "", zone=ZONE + UNIT + "experiment_keys {folder}/keys;", start=False, allowed=EMERG)
    (edge.folder / "keys").write_text(KEY)
    (edge.folder / "keys").chmod(0)
    assert "Permission denied" in refusal(edge)
