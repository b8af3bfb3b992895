"""A fault in an instrumented library fails the test, in a process that is not instrumented itself."""
import pathlib
import subprocess

import pytest

from lib import sanitizer
from lib.edge import MODULE, ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fault")
    library = ["-fsanitize=address,undefined", "-shared", "-fPIC"]
    for options, source, made in ((library, "fault.c", "fault.so"), ([], "host.c", "host")):
        subprocess.run(["gcc", "-g", *options, ROOT / "t/lib" / source, "-o", folder / made], check=True)
    return folder


@pytest.mark.parametrize("kind,message", [
    ("none", None), ("overflow", "heap-buffer-overflow"), ("freed", "heap-use-after-free"),
    ("undefined", "runtime error: signed integer overflow"), ("leak", "detected memory leaks")])
def test_a_fault_is_reported(built, tmp_path, kind, message):
    library = built / "fault.so"
    done = subprocess.run([built / "host", library, kind], capture_output=True, text=True,
                          env=sanitizer.environment(library, tmp_path / "reports"))
    told = done.stderr + "".join(sanitizer.reports(tmp_path / "reports"))  # nginx's stderr is its error log
    if message is None:
        assert (done.returncode, told) == (0, "")
    else:
        assert message in told and "in fault " in told and sanitizer.REPORT.search(told)


def test_a_plain_library_needs_no_runtime(built, tmp_path):
    assert sanitizer.environment(built / "host", tmp_path / "reports") is None


def test_a_report_fails_the_test(edges):
    edge = edges("server { listen 127.0.0.1:{port}; }")
    edge.reports.mkdir(exist_ok=True)
    report = edge.reports / "report.nginx.1"
    report.write_text("ERROR: AddressSanitizer: heap-buffer-overflow")
    with pytest.raises(AssertionError, match="heap-buffer-overflow"):
        edge.end()
    report.unlink()
    with edge.log.open("a") as log:
        log.write("x.cpp:1:1: runtime error: null pointer\n")
    with pytest.raises(AssertionError, match="runtime error"):
        edge.end()
    edge.log.unlink()


def test_workers_carry_the_runtimes(edges):
    edge = edges("server { listen 127.0.0.1:{port}; }")
    expected = sanitizer.runtimes(MODULE)
    workers = edge.worker_pids()
    assert workers
    for pid in workers:
        maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
        assert str(MODULE) in maps
        assert ("libasan" in maps) == bool(expected)
        for path in expected:
            assert str(pathlib.Path(path).resolve()) in maps
