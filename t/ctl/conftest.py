"""A state directory with a document, for a tool without nginx."""

import json

import pytest

from lib.tool import DOCUMENT


@pytest.fixture
def state(tmp_path):
    directory = tmp_path / "state"
    directory.mkdir()
    (directory / "definitions.json").write_text(json.dumps(DOCUMENT))
    return directory


@pytest.fixture
def empty(tmp_path):
    directory = tmp_path / "empty"
    directory.mkdir()
    return directory
