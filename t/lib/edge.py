"""A real nginx with the module, in a folder of its own."""
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

from lib import sanitizer

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / os.environ.get("BUILD", "build")
MODULE = BUILD / "ngx_http_experiment_module.so"
CTL = BUILD / "experimentctl"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"

FORBIDDEN = re.compile(r"\[alert\]|\[emerg\]|exited on signal|open socket|" + sanitizer.REPORT.pattern)

HEAD = """
load_module {module};
{handed_on}
worker_processes {workers};
daemon {daemon}; master_process {master};
pid {folder}/nginx.pid;
error_log {folder}/error.log {level};
worker_shutdown_timeout {shutdown};
events {{ worker_connections 1024; }}
http {{
    access_log off;
    default_type text/html;
    client_body_temp_path {folder}/tmp_body; proxy_temp_path {folder}/tmp_proxy; fastcgi_temp_path {folder}/tmp_fcgi;
    uwsgi_temp_path {folder}/tmp_uwsgi; scgi_temp_path {folder}/tmp_scgi;
    proxy_cache_path {folder}/cache keys_zone=pages:4m max_size=256m inactive=10m;
    {zone}
"""
ZONE = """
    experiment_zone zone=experiments:{size} state={folder}/state;
    experiment_unit visitor cookie=__Host-uid mint;
    experiment_unit account header=X-Account;
    experiment_kill_file {folder}/kill;
"""


# Tests run in several processes, "gw0" and so on, each with ports of its own, below those that the kernel gives away. The bus of a Redis
# cluster lies 10,000 above its port: for four processes that is above all of them.
PORTS = 2500
FIRST_PORT = 10000 + PORTS * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
ports = itertools.cycle(range(FIRST_PORT, FIRST_PORT + PORTS))


def free_port():
    """A port at which nobody listens, and not one of those given last."""
    for port in itertools.islice(ports, PORTS):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise AssertionError(f"no port is free from {FIRST_PORT} to {FIRST_PORT + PORTS - 1}")


def is_running(pid):
    """A zombie that nobody has waited for has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def experiment(key, variants=("control", "green"), **fields):
    """A running experiment with equal weights and one conversion goal, unless `fields` say otherwise."""
    made = {"key": key, "desired": "running",
            "variants": [v if isinstance(v, dict) else {"key": v} for v in variants],
            "goals": [{"key": "purchase", "kind": "conversion"}]}
    made.update(fields)
    return {k: v for k, v in made.items() if v is not None}


def document(*experiments, **fields):
    return {"schema": 1, **fields, "experiments": list(experiments)}


class Edge:
    """`http` is the text inside http{}, behind the zone; {port}, {port2}, {port3}, {folder} and {backend} are filled in.

    `zone` replaces the zone's directives ("" for none); `definitions` is a document (dict) or text. `allowed` is a pattern of forbidden
    lines that this test provokes. With `daemon` off nginx is a child of the test; with `master` off it is one
    process.
    """

    def __init__(self, folder, http, definitions=None, backend=None, workers=2, zone=ZONE, size="8m", level="info",
                 start=True, allowed=None, daemon=True, master=True, module=MODULE, environment=None,
                 shutdown="5s"):
        self.folder = pathlib.Path(folder)
        self.state = self.folder / "state"
        self.kill_file = self.folder / "kill"
        self.log = self.folder / "error.log"
        self.port, self.port2, self.port3 = free_port(), free_port(), free_port()
        self.backend = backend
        self.allowed = re.compile(allowed) if allowed else None
        self.workers, self.zone, self.size, self.level = workers, zone, size, level
        self.daemon, self.master, self.module, self.shutdown = daemon, master, module, shutdown
        self.reports = self.folder / "reports"
        checked = sanitizer.environment(module, self.reports, environment)
        self.environment = checked or environment
        self.handed_on = sanitizer.VARIABLES if checked else ()
        self.pid = self.child = None
        self.other_masters = []  # of upgrades under way
        self.state.mkdir(exist_ok=True)
        self.give(self.state)
        if definitions is not None:
            self.define(definitions)
        self.configure(http)
        if start:
            self.start()

    @staticmethod
    def give(path):
        """Workers run as nobody where nginx is started by root."""
        if os.getuid() == 0:
            shutil.chown(path, "nobody")

    def names(self):
        return {"port": self.port, "port2": self.port2, "port3": self.port3, "folder": self.folder,
                "module": self.module, "shutdown": self.shutdown, "daemon": "on" if self.daemon else "off",
                "master": "on" if self.master else "off", "workers": self.workers, "size": self.size,
                "level": self.level,
                "handed_on": "".join(f"env {name}; " for name in self.handed_on),
                "backend": self.backend.address if self.backend else "127.0.0.1:1"}

    def configure(self, http, **changes):
        """Writes nginx.conf; braces of nginx stand as they are, {port} and the like are filled in."""
        self.__dict__.update(changes)
        names = self.names()
        fill = lambda text: re.sub(r"\{(%s)\}" % "|".join(names), lambda m: str(names[m.group(1)]), text)
        head = HEAD.replace("{{", "{").replace("}}", "}").replace("{zone}", self.zone)
        (self.folder / "nginx.conf").write_text(fill(head + http + "\n}\n"))

    def define(self, definitions):
        text = definitions if isinstance(definitions, (str, bytes)) else json.dumps(definitions, indent=1)
        temporary = self.folder / "definitions.new"
        temporary.write_bytes(text if isinstance(text, bytes) else text.encode())
        temporary.chmod(0o644)
        os.replace(temporary, self.state / "definitions.json")

    def line(self, *args):
        return [NGINX, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-e", str(self.log), *args]

    def command(self, *args):
        done = subprocess.run(self.line(*args), capture_output=True, text=True, timeout=30, env=self.environment)
        assert not sanitizer.REPORT.search(done.stderr), done.stderr
        return done

    def test(self):
        return self.command("-t")

    def start(self):
        if self.daemon:
            done = self.command()
            assert done.returncode == 0, done.stderr + self.text()
        else:
            self.child = subprocess.Popen(self.line(), env=self.environment)
        self.pid = self.wait(self.written_pid)
        self.wait(self.listening)

    def written_pid(self):
        path = self.folder / "nginx.pid"
        return path.exists() and int(path.read_text().strip() or 0)

    def upgrade(self):
        """Starts a second master, `pid` from then on, beside the first, whose pid is returned. Both serve."""
        old, old_file = self.pid, self.folder / "nginx.pid.oldbin"
        self.send(signal.SIGUSR2)
        self.wait(lambda: old_file.exists() and self.written_pid() not in (0, False, old))
        self.other_masters.append(old)
        self.pid = self.written_pid()
        self.all_workers()
        return old

    def end_master(self, pid, number=signal.SIGQUIT):
        """Ends one of the two, and waits for it; the other one is `pid` from then on."""
        masters = {self.pid, *self.other_masters} - {pid}
        self.pid, *self.other_masters = masters
        os.kill(pid, number)
        self.wait(lambda: not is_running(pid))

    def kill_everything(self):
        """Master and workers at once, as a machine that loses power."""
        for pid in [self.pid, *self.children()]:
            os.kill(pid, signal.SIGKILL)
        self.wait(lambda: not self.listening())
        self.pid = None
        (self.folder / "nginx.pid").unlink()

    def listening(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    @staticmethod
    def wait(condition, seconds=30, step=0.02):
        """What `condition` returns, once that is true. `seconds` by default: ample for a busy machine and a sanitizer."""
        end = time.monotonic() + seconds
        while True:
            result = condition()
            if result:
                return result
            assert time.monotonic() < end, f"waited {seconds} s in vain"
            time.sleep(step)

    def send(self, number):
        os.kill(self.pid, number)

    def children(self, master=None):
        out = subprocess.run(["pgrep", "-P", str(master or self.pid)], capture_output=True, text=True).stdout
        return [int(pid) for pid in out.split()]

    def worker_pids(self, master=None):
        return [pid for pid in self.children(master)
                if b"worker process" in (title := self.title(pid)) and b"shutting down" not in title]

    def all_workers(self):
        """Their pids, once all have started."""
        return self.wait(lambda: len(pids := self.worker_pids()) == self.workers and pids)

    @staticmethod
    def title(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return b""  # it ended meanwhile

    def reload(self):
        """Waits until the old workers stopped accepting."""
        before = set(self.worker_pids())
        self.send(signal.SIGHUP)
        self.wait(lambda: (now := set(self.worker_pids())) and not now & before and len(now) == self.workers)

    def stop(self, number=signal.SIGQUIT):
        if self.pid is None:
            return
        pid, self.pid = self.pid, None
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        end = time.monotonic() + 10
        while is_running(pid) and time.monotonic() < end:
            time.sleep(0.02)
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)
            raise AssertionError("nginx did not end")

    def end(self):
        for pid in self.other_masters:
            if is_running(pid):
                os.kill(pid, signal.SIGTERM)
        self.stop()
        if self.child:
            self.child.wait(5)
        bad = [line for line in self.text().splitlines()
               if FORBIDDEN.search(line) and not (self.allowed and self.allowed.search(line))]
        assert not bad, "\n".join(bad[:10])
        reports = sanitizer.reports(self.reports)
        assert not reports, f"{len(reports)} reports, the first:\n" + reports[0][:6000]

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def lines(self, pattern):
        return [line for line in self.text().splitlines() if re.search(pattern, line)]

    def wait_log(self, pattern, count=1, seconds=30):
        return self.wait(lambda: len(found := self.lines(pattern)) >= count and found, seconds)

    def ctl(self, *args, check=False):
        done = subprocess.run([str(CTL), *args, "--state", str(self.state)], capture_output=True, text=True, timeout=30)
        assert not sanitizer.REPORT.search(done.stderr), done.stderr
        assert not check or done.returncode == 0, done.stderr
        return done

    def runtime(self, key):
        """The runtime state of an experiment, as the store has it."""
        return json.loads((self.state / "runtime.json").read_text())["state"]["experiments"][key]

    def metrics(self, port=None, path="/metrics"):
        """{'name{labels}': value} of experiment_metrics."""
        from lib.client import get
        text = get(port or self.port, path).text
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines()
                if line and not line.startswith("#")}
