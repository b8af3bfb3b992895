"""The command under test, for the modules of this folder."""

import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def experimentctl():
    """Path of the command; EXPERIMENTCTL names another build."""
    path = pathlib.Path(os.environ.get("EXPERIMENTCTL", ROOT / "build" / "experimentctl"))
    if not path.exists():
        pytest.fail(f"{path} is not built, expected: make integration, or EXPERIMENTCTL=PATH")
    return path
