"""A Redis of the test's own, and edges that share it."""
import pytest
from lib.fleet import Fleet
from lib.redis_server import RedisServer
from lib.transport import Published, make_edge


@pytest.fixture
def server():
    with RedisServer() as started:
        yield started


@pytest.fixture
def db(server):
    return server.client()


@pytest.fixture
def fleets(edges, server):
    """Makes fleets at this Redis: fleets(conf, definitions=...); see lib/fleet.py."""
    def make(http, url=None, **more):
        return Fleet(edges, url or f"redis://{server.address}", http, **more)
    return make


@pytest.fixture
def publish(server):
    """Each call gives this Redis a document with one more experiment; see lib/transport.py."""
    return Published(server.client())


@pytest.fixture
def stores(edges):
    """Makes single edges: stores(url, options); see lib/transport.py."""
    def make(url, options="", **more):
        return make_edge(edges, url, options, **more)
    return make
