"""The shipped JSON Schema and our own checks give the same answers over one corpus of documents.

good/ and not_in_build/: both accept. bad/: both refuse. bad_beyond_schema/: the schema accepts, our checks refuse; these are
exactly the rules between members, which a schema cannot state. Whatever the schema refuses our checks refuse, which is also tried on
mutations of a document with every member.
"""

import copy
import json
import pathlib
import subprocess

import jsonschema
import pytest

FOLDER = pathlib.Path(__file__).parent
ROOT = FOLDER.parents[1]
SCHEMA = json.loads((ROOT / "shared" / "definitions.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def corpus(*folders):
    paths = [path for folder in folders for path in sorted((FOLDER / folder).glob("*.json"))]
    assert paths
    return pytest.mark.parametrize("path", paths, ids=lambda path: f"{path.parent.name}/{path.stem}")


def not_json(constant):
    raise ValueError(f"{constant} is not JSON")


def schema_accepts(path):
    try:
        document = json.loads(path.read_bytes().decode("utf-8"), parse_constant=not_json)
    except ValueError:
        return False
    return VALIDATOR.is_valid(document)


def check(command, path):
    return subprocess.run([command, "check", str(path)], capture_output=True, text=True, timeout=10, check=False)


def test_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@corpus("good", "not_in_build", "bad_beyond_schema")
def test_schema_accepts(path):
    assert schema_accepts(path)


@corpus("bad")
def test_schema_refuses(path):
    assert not schema_accepts(path)


@corpus("good", "not_in_build")
def test_checks_accept(experimentctl, path):
    result = check(experimentctl, path)
    assert result.returncode == 0, result.stdout + result.stderr


@corpus("bad", "bad_beyond_schema")
def test_checks_refuse_and_name_the_place(experimentctl, path):
    result = check(experimentctl, path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert ", expected " in result.stdout + result.stderr


@corpus("not_in_build")
def test_a_feature_that_is_not_built_is_named_with_its_place(experimentctl, path):
    expected = json.loads(path.read_text())["x-expect"]
    result = check(experimentctl, path)
    assert f"at {expected['at']}: not in this build ({expected['feature']})" in result.stdout + result.stderr


REPLACEMENTS = [None, True, -1, 0.5, 5001, 1e300, "", "x", "7d", "control", [], {}, [0, 1], {"key": "x"}]


def places(value, way=()):
    """The ways to all values below, deepest first."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    for name, child in children:
        yield from places(child, way + (name,))
        yield way + (name,)


def mutations(document):
    for way in places(document):
        for replacement in REPLACEMENTS:
            changed = copy.deepcopy(document)
            holder = changed
            for name in way[:-1]:
                holder = holder[name]
            holder[way[-1]] = replacement
            yield way, replacement, changed


def test_whatever_the_schema_refuses_the_checks_refuse(experimentctl, tmp_path):
    document = json.loads((FOLDER / "good" / "everything.json").read_text())
    path = tmp_path / "mutation.json"
    refused = 0
    for way, replacement, changed in mutations(document):
        if VALIDATOR.is_valid(changed):
            continue
        refused += 1
        path.write_text(json.dumps(changed))
        assert check(experimentctl, path).returncode == 1, (way, replacement)
    assert refused > 200
