"""What every integration test stands on: a real nginx with the module, a backend that records what it was asked, a browser with a cookie jar.

Each Edge lives in a folder of its own on loopback ports of its own and is ended by its pid; ending it fails the test when the error log holds
what no run may hold.
"""
import contextlib
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


@contextlib.contextmanager
def open_folder():
    """A folder that workers may enter, who run as nobody. pytest's own is closed to them, by each pytest that starts
    anew. KEEP=1 leaves it.
    """
    folder = pathlib.Path(tempfile.mkdtemp(prefix="experiment-test-"))
    folder.chmod(0o755)
    yield folder
    if os.environ.get("KEEP"):
        print(f"kept {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def folder():
    with open_folder() as made:
        yield made


def made_edges():
    """Makes edges that are ended with the test: edges(conf, definitions=...)."""
    with open_folder() as root:
        yield from edges_in(root)


def edges_in(root):
    made = []

    def make(*args, **kwargs):
        place = root / f"edge{len(made)}"
        place.mkdir(mode=0o755)
        edge = Edge(place, *args, **kwargs)
        made.append(edge)
        return edge

    yield make
    errors = []
    for edge in made:
        try:
            edge.end()
        except AssertionError as error:
            errors.append(str(error))
    assert not errors, "\n".join(errors)


edges = pytest.fixture(made_edges, name="edges")
module_edges = pytest.fixture(made_edges, scope="module", name="module_edges")  # of all tests of a file
