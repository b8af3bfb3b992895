"""What every integration test stands on: a real nginx with the module, a backend that records what it was asked, a browser with a cookie jar.

Each Edge lives in a folder of its own on loopback ports of its own and is ended by its pid; ending it fails the test when the error log holds
what no run may hold.
"""
import os
import pathlib
import shutil
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "t"))

from lib.backend import Backend  # noqa: E402
from lib.edge import Edge  # noqa: E402

SOAK = bool(os.environ.get("SOAK"))


@pytest.fixture(scope="session")
def soak():
    """Whether the long form of a test is wanted."""
    return SOAK


@pytest.fixture(scope="module")
def backend():
    server = Backend()
    yield server
    server.close()


def made_edges():
    """Makes edges that are ended with the test: edges(conf, definitions=...). KEEP=1 leaves their folders."""
    made = []
    # Not under pytest's own folder: another pytest that starts closes that to everybody else, and workers run as nobody.
    root = pathlib.Path(tempfile.mkdtemp(prefix="experiment-test-"))
    root.chmod(0o755)

    def make(*args, **kwargs):
        folder = root / f"edge{len(made)}"
        folder.mkdir(mode=0o755)
        edge = Edge(folder, *args, **kwargs)
        made.append(edge)
        return edge

    yield make
    errors = []
    for edge in made:
        try:
            edge.end()
        except AssertionError as error:
            errors.append(str(error))
    if os.environ.get("KEEP"):
        print(f"kept {root}")
    else:
        shutil.rmtree(root, ignore_errors=True)
    assert not errors, "\n".join(errors)


edges = pytest.fixture(made_edges, name="edges")
module_edges = pytest.fixture(made_edges, scope="module", name="module_edges")  # of all tests of a file
