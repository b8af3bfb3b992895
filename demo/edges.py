"""What the demo runs: edges, the storefront behind them, and the redis-server that a fleet shares."""
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter

HERE = pathlib.Path(__file__).resolve().parent
START_S = 15
STOP_S = 10
CACHE_KEY = re.compile(rb"\nKEY: (?:\0[^\0]*\0)?http127\.0\.0\.1(/[^\n]*)\n")
LOG_FAULT = re.compile(r"\[(alert|emerg)\]|exited on signal")


class StartError(Exception):
    pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Edge:
    """An nginx: its folder is its prefix."""

    def __init__(self, folder, port):
        self.folder = folder
        self.state = folder / "state"
        self.error_log = folder / "error.log"
        self.port = port or free_port()
        self.admin_port = free_port()

    def log_tail(self):
        return "".join(self.error_log.read_text().splitlines(True)[-12:]) if self.error_log.exists() else ""

    def log_faults(self):
        lines = self.error_log.read_text().splitlines() if self.error_log.exists() else []
        return [line for line in lines if LOG_FAULT.search(line)]


class Site:
    """Edges, storefront and perhaps a Redis in one temporary directory; each process started here is ended here, by its
    handle."""

    def __init__(self, options):
        self.prefix = pathlib.Path(tempfile.mkdtemp(prefix="experiment-demo-"))
        self.prefix.chmod(0o755)  # nginx started by root serves as another user
        self.edges = [Edge(self.prefix / f"edge{n + 1}", 0 if n else options.port) for n in range(options.fleet or 1)]
        self.backend_port = free_port()
        self.redis_port = free_port() if options.fleet else None
        self._module, self._ctl = options.module, options.ctl
        self._processes = []

    @property
    def store(self):
        """What experimentctl is told to find the experiments."""
        if self.redis_port:
            return f"--store redis://127.0.0.1:{self.redis_port}"
        return f"--state {self.edges[0].state}"

    def ask(self, *words):
        """What experimentctl says."""
        return subprocess.run([self._ctl, *words, *self.store.split()], capture_output=True, text=True)

    def start(self):
        self._spawn([sys.executable, str(HERE / "storefront.py"), str(self.backend_port)], stdin=subprocess.PIPE)
        if self.redis_port:
            self._start_redis()
        for edge in self.edges:
            edge.state.mkdir(parents=True)
            if not self.redis_port:
                shutil.copy(HERE / "definitions.json", edge.state)
            self._configure(edge)
            self._spawn([shutil.which("nginx") or "/usr/sbin/nginx", "-p", f"{edge.folder}/", "-c", "nginx.conf",
                         "-e", str(edge.error_log)], stdin=subprocess.DEVNULL)

    def _configure(self, edge):
        values = {"MODULE": self._module, "PORT": edge.port, "ADMIN": edge.admin_port, "BACKEND": self.backend_port,
                  "REDIS": self.redis_port, "KEYS": self.prefix / "keys"}
        conf = (HERE / "nginx.conf").read_text()
        if self.redis_port:
            conf = conf.replace("# experiment_", "experiment_")
        conf = re.sub(r"@([A-Z]+)@", lambda match: str(values[match[1]]), conf)
        (edge.folder / "nginx.conf").write_text(conf)

    def _start_redis(self):
        """An empty one with the demo's definitions."""
        self._spawn(["redis-server", "--bind", "127.0.0.1", "--port", str(self.redis_port), "--save", "",
                     "--dir", str(self.prefix), "--logfile", "redis.log"], stdin=subprocess.DEVNULL)
        (self.prefix / "keys").touch(mode=0o600)
        (self.prefix / "keys").write_text(secrets.token_hex(32) + "\n")
        deadline = time.monotonic() + START_S
        while True:
            done = self.ask("publish", str(HERE / "definitions.json"))
            if done.returncode == 0:
                return
            if time.monotonic() > deadline or self.ended():
                raise StartError(f"the definitions cannot be published: {done.stderr.strip()}")
            time.sleep(0.1)

    def _spawn(self, command, **options):
        # A session of its own: Ctrl-C reaches only this process, which then stops the others in order.
        try:
            self._processes.append(subprocess.Popen(command, start_new_session=True, **options))
        except OSError as error:
            raise StartError(f"cannot start {command[0]}: {error}") from error

    def ended(self):
        """The first process that ended by itself as text, or None."""
        for process in self._processes:
            if process.poll() is not None:
                tails = "".join(edge.log_tail() for edge in self.edges)
                return f"{' '.join(process.args[:2])} ended with {process.returncode}\n{tails}"
        return None

    def stop(self):
        """nginx first and gracefully, since an `open socket left` is only told then; then what it depends on."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGQUIT if "nginx.conf" in process.args else signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log_faults(self):
        return [line for edge in self.edges for line in edge.log_faults()]

    def stored_pages(self):
        """Bodies in nginx's cache by path, read from the key at the head of each file."""
        pages = Counter()
        for edge in self.edges:
            for file in filter(pathlib.Path.is_file, (edge.folder / "cache").rglob("*")):
                key = CACHE_KEY.search(file.read_bytes())
                if key:
                    pages[key[1].decode()] += 1
        return pages
