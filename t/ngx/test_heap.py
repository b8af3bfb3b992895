"""A request takes memory from its pool only: a preloaded library counts who else calls malloc in a worker.

nginx's own calls are those of its pools; whatever comes from the module, or from a library that it calls, is counted
apart.
"""
import http.client
import re
import struct
import subprocess

import pytest
from lib import sanitizer
from lib.client import NAVIGATION
from lib.edge import MODULE, document, experiment

REQUESTS = 300
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { kPids = 1 << 19 };
static struct { _Atomic uint64_t nginx, others; } *counts;
static uintptr_t begin, end;

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static int find_nginx(struct dl_phdr_info *info, size_t size, void *data) {
  (void)size, (void)data;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    if (info->dlpi_phdr[i].p_type != PT_LOAD || !(info->dlpi_phdr[i].p_flags & PF_X)) continue;
    begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
    end = begin + info->dlpi_phdr[i].p_memsz;
  }
  return 1;  /* the first object is the program */
}

__attribute__((constructor)) static void start(void) {
  int fd = open(getenv("HEAP_COUNTS"), O_RDWR);
  dl_iterate_phdr(find_nginx, NULL);
  void *map = mmap(NULL, kPids * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map != MAP_FAILED) counts = map;
  close(fd);
}

static void count(void *caller) {
  if (counts == NULL) return;
  if ((uintptr_t)caller >= begin && (uintptr_t)caller < end) {
    ++counts[getpid() % kPids].nginx;
  } else {
    ++counts[getpid() % kPids].others;
  }
}

#define CALLER __builtin_return_address(0)
void *malloc(size_t n) { count(CALLER); return __libc_malloc(n); }
void *calloc(size_t n, size_t size) { count(CALLER); return __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { count(CALLER); return __libc_realloc(p, n); }
void *memalign(size_t to, size_t n) { count(CALLER); return __libc_memalign(to, n); }
void *aligned_alloc(size_t to, size_t n) { count(CALLER); return __libc_memalign(to, n); }
int posix_memalign(void **p, size_t to, size_t n) {
  count(CALLER);
  *p = __libc_memalign(to, n);
  return *p == NULL ? 12 : 0;
}
"""
SERVER = """
    request_pool_size 32k;
    experiment_types *;
    proxy_cache_key $uri;
    experiment_cohort_max 1000;
    keepalive_requests 100000;
    upstream app { server {backend}; keepalive 4; keepalive_requests 100000; }
    proxy_http_version 1.1; proxy_set_header Connection "";
    server {
        listen 127.0.0.1:{port};
        location = /pid { return 200 "$pid"; }
        location /list/ { alias {folder}/state/; autoindex on; }
        location /plain/ { return 200 "some page"; }
        location /plain/proxied { proxy_pass http://app; }
        location /plain/cached { proxy_cache pages; proxy_cache_valid 200 10m; proxy_pass http://app; }
        location / { experiment all; return 200 "$variant_e0$variant_e1$variant_e2$experiment_cohort"; }
        location /proxied { experiment all; proxy_pass http://app; }
        location /cached { experiment all; proxy_cache pages; proxy_cache_valid 200 10m; proxy_pass http://app; }
        location /thanks { experiment all; experiment_reward purchase; return 200 "thank you"; }
        location = /beacon { experiment_beacon; }
        location = /metrics { experiment_metrics; }
    }
"""
UID = "visitor-of-22-letters_"


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-fno-builtin", "-fno-optimize-sibling-calls", "-o",
                    folder / "shim.so", folder / "shim.c"], check=True)
    return folder / "shim.so"


class Worker:
    """A kept connection to a worker that does not lead, and who called malloc in it."""

    def __init__(self, edge, counts):
        self.edge, self.counts = edge, counts
        leader = edge.wait_log(r"definitions \d+ in use")[-1]
        leader = re.search(r"\[notice\] (\d+)#", leader).group(1)
        self.pid = edge.wait(lambda: self.connect() != leader and self.body)
        self.wait_for_plan()

    def connect(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", self.edge.port, timeout=10)
        return self.ask("/pid")

    def wait_for_plan(self):
        self.edge.wait(lambda: len(self.ask("/", {"X-Account": "1"})) > 3)

    def ask(self, path, headers=None, method="GET", body=None):
        self.connection.request(method, path, body=body, headers=headers or {})
        self.answer = self.connection.getresponse()
        self.body = self.answer.read().decode()
        return self.body

    def allocations(self):
        """Calls so far: nginx's, others'."""
        with self.counts.open("rb") as file:
            file.seek(int(self.pid) % (1 << 19) * 16)
            return struct.unpack("QQ", file.read(16))

    def during(self, ask):
        """What REQUESTS requests call; `ask(i)` makes one. As many went before."""
        for i in range(REQUESTS):
            ask(i)
        nginx, others = self.allocations()
        for i in range(REQUESTS, 2 * REQUESTS):
            ask(i)
        now = self.allocations()
        assert now[0] > nginx, "nginx makes a pool for each request"
        return now[0] - nginx, now[1] - others


@pytest.fixture
def worker(edges, backend, shim, tmp_path, monkeypatch):
    if sanitizer.runtimes(MODULE):
        pytest.skip("a sanitizer's malloc is in the way")
    backend.reset()
    backend.answer = lambda path, headers: (200, [("Content-Type", "text/html"), ("ETag", '"1"')] + [
        ("Experiment-Reward", "purchase")] * ("rewarded" in path), b"a page")
    counts = tmp_path / "counts"
    with counts.open("wb") as file:
        file.truncate((1 << 19) * 16)
    monkeypatch.setenv("HEAP_COUNTS", str(counts))
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    edge = edges(SERVER, definitions("account", "visitor", "visitor"), backend)
    monkeypatch.delenv("LD_PRELOAD")
    yield Worker(edge, counts)
    backend.reset()


def definitions(*units):
    return document(*(experiment(f"e{i}", unit=unit) for i, unit in enumerate(units)))


def browser(worker):
    """Headers of somebody who was here before."""
    worker.ask("/", {**NAVIGATION, "X-Account": "7"})
    cookies = [line.split(";")[0] for line in worker.answer.headers.get_all("Set-Cookie")]
    assert len(cookies) == 2
    return {**NAVIGATION, "X-Account": "7", "Cookie": "; ".join(cookies)}


def test_the_count_sees_what_is_not_nginx(worker):
    _, others = worker.during(lambda i: worker.ask("/list/"))  # opendir() of the C library
    assert others >= REQUESTS
    before = worker.allocations()
    worker.edge.define(definitions("account", "visitor", "visitor", "visitor"))  # the module compiles a plan
    worker.edge.wait(lambda: worker.allocations()[1] > before[1] + 20)


def account(i, known):
    return {"X-Account": f"{i:06d}"}


# Path, headers, Set-Cookie lines of each answer, rewards counted at the end.
CASES = {
    "a unit of a header": ("/", account, 0, 0),
    "a signed cookie": ("/", lambda i, known: known, 0, 0),
    "a cookie written": ("/", lambda i, known: {**NAVIGATION, "Cookie": f"uid={UID}"}, 1, 0),
    "a unit minted": ("/", lambda i, known: NAVIGATION, 2, 0),
    "a script without a unit": ("/", lambda i, known: {"Sec-Fetch-Dest": "empty"}, 0, 0),
    "a reward of a header's unit": ("/thanks", account, 0, 2 * REQUESTS),
    "a reward of a cookie, once": ("/thanks", lambda i, known: {**NAVIGATION, "Cookie": known["Cookie"]}, 0, 2),
    "a reward of a unit minted": ("/thanks", lambda i, known: NAVIGATION, 2, 4 * REQUESTS),
    "headers to a backend": ("/proxied", lambda i, known: known, 0, 0),
    "a reward from a backend": ("/proxied/rewarded", account, 0, 2 * REQUESTS),
    "a cached page": ("/cached", lambda i, known: known, 0, 0),
}


@pytest.mark.parametrize("name", CASES)
def test_a_request_takes_its_memory_from_its_pool(worker, name):
    path, headers, cookies, rewards = CASES[name]
    known = browser(worker)
    plain = {"/proxied": "/plain/proxied", "/cached": "/plain/cached"}.get("/" + path.split("/")[1], "/plain/")
    without, _ = worker.during(lambda i: worker.ask(plain, headers(i, known)))
    nginx, others = worker.during(lambda i: worker.ask(path, headers(i, known)))
    assert (nginx, others) == (without, 0)
    assert len(worker.answer.headers.get_all("Set-Cookie") or []) == cookies
    counted = sum(v for k, v in worker.edge.metrics().items() if k.startswith("nginx_experiment_rewards_total{"))
    assert counted == rewards


def test_a_beacon_takes_its_memory_from_its_pool(worker):
    headers = {"Content-Type": "application/json"}
    event = '{"goal":"purchase","value":19.99,"id":"o-%d","note":["\\u00e9",{}]}'
    for i in range(2 * REQUESTS):
        worker.ask("/", {"X-Account": f"{i:06d}"})
    _, others = worker.during(lambda i: worker.ask("/beacon", {**headers, "X-Account": f"{i:06d}"}, "POST", event % i))
    assert others == 0
    assert sum(v for k, v in worker.edge.metrics().items() if "rewards_total{experiment=\"e0\"" in k) == 2 * REQUESTS
