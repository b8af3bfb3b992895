"""One server for all tests that do nothing to it, emptied for each; contracts are called in both forms."""
import pytest
from lib.redis_library import FORMS, Library
from lib.redis_server import RedisServer

@pytest.fixture(scope="session")
def server():
    with RedisServer() as server:
        yield server


@pytest.fixture
def client(server):
    with server.client(decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def binary(server, client):
    """A client that decodes nothing: what DUMP tells is no text."""
    with server.client() as binary:
        yield binary


@pytest.fixture(params=FORMS)
def library(request, client):
    return Library(client, request.param)


@pytest.fixture
def servers():
    """Makes servers of a test's own."""
    made = []

    def make(*args, **kwargs):
        made.append(RedisServer(*args, **kwargs))
        return made[-1]

    yield make
    for server in made:
        server.end()
