"""Reads t/vectors/cookie.json back with a decoder of its own.

What the C++ code agrees with must also be what the format says.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import struct
import subprocess
import sys

import pytest
import xxhash

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
DATA = json.loads((VECTORS / "cookie.json").read_text())
RING = {hashlib.sha256(bytes.fromhex(k)).digest()[0]: bytes.fromhex(k) for k in DATA["ring"]}
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class Refused(Exception):
    pass


def from_text(text):
    if any(c not in ALPHABET for c in text) or len(text) % 4 == 1:
        raise Refused("malformed")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(data).decode().rstrip("=") != text:
        raise Refused("malformed")
    return data


def mac(key, purpose, data):
    sub_key = hmac.digest(key, b"experiment " + purpose, "sha256")
    return hmac.digest(sub_key, data + purpose, "sha256")[:16]


def records_of(body):
    at, records = 0, []
    while at < len(body):
        if len(records) == 20 or len(body) - at < 16:
            raise Refused("malformed")
        fields = struct.unpack_from("<IBBIHHBB", body, at)
        experiment, tag, arm, epoch_low, epoch_high, first_low, first_high, marks = fields
        at += 16
        record = {"experiment": experiment, "unit_tag": tag, "arm": arm & 31, "baseline": bool(arm & 32),
                  "epoch": epoch_high << 32 | epoch_low, "first_exposure_10min": first_high << 16 | first_low,
                  "marks": marks}
        if arm & 64 or record["arm"] >= 20:
            raise Refused("malformed")
        if arm & 128:
            if len(body) - at < 4:
                raise Refused("malformed")
            (record["sum"],) = struct.unpack_from("<I", body, at)
            at += 4
        records.append(record)
    return records


def decode(text):
    if not text:
        raise Refused("absent")
    if len(text) > 512:
        raise Refused("too_long")
    data = from_text(text)
    if len(data) < 18:
        raise Refused("malformed")
    if data[0] != 1:
        raise Refused("unknown_version")
    if data[1] not in RING:
        raise Refused("unknown_key")
    if not hmac.compare_digest(mac(RING[data[1]], b"cookie", data[:-16]), data[-16:]):
        raise Refused("bad_mac")
    unique = {}
    for record in records_of(data[2:-16]):
        unique.setdefault((record["experiment"], record["unit_tag"]), record)
    return list(unique.values())


def test_the_file_is_what_the_generator_writes():
    command = [sys.executable, VECTORS / "make_cookie.py", "--print"]
    made = subprocess.run(command, check=True, capture_output=True, text=True)
    assert made.stdout == (VECTORS / "cookie.json").read_text()


@pytest.mark.parametrize("vector", DATA["cookies"] + [DATA["rotated"], DATA["duplicates"]],
                         ids=lambda v: v.get("name", "rotated or duplicates"))
def test_cookies_hold_their_records(vector):
    assert decode(vector["text"]) == vector["records"]
    assert len(vector["text"]) <= 512


@pytest.mark.parametrize("vector", DATA["bad"], ids=lambda v: v["name"])
def test_bad_cookies_are_refused_for_the_reason_given(vector):
    with pytest.raises(Refused) as refused:
        decode(vector["text"])
    assert str(refused.value) == vector["status"]


def test_every_reason_has_a_vector():
    assert {v["status"] for v in DATA["bad"]} == {
        "absent", "malformed", "too_long", "unknown_version", "unknown_key", "bad_mac"}


def test_the_first_key_signs():
    signing = hashlib.sha256(bytes.fromhex(DATA["ring"][0])).digest()[0]
    assert all(from_text(v["text"])[1] == signing for v in DATA["cookies"])
    assert from_text(DATA["rotated"]["text"])[1] != signing


@pytest.mark.parametrize("ring", DATA["rings"], ids=lambda r: r["fingerprint"])
def test_ring_ids_and_fingerprints(ring):
    digests = [hashlib.sha256(bytes.fromhex(key)).digest() for key in ring["keys"]]
    assert ring["ids"] == [digest[0] for digest in digests]
    assert ring["fingerprint"] == hashlib.sha256(b"".join(digests)).digest()[:4].hex()


def test_tags():
    for v in DATA["experiment_tags"]:
        key_hash = struct.pack("<Q", xxhash.xxh3_64(v["key"].encode()).intdigest())
        digest = xxhash.xxh3_64_digest(key_hash, v["generation"])  # big endian
        assert v["tag"] == int.from_bytes(digest[4:], "big")
    seed = xxhash.xxh3_64(b"\0unit_tag").intdigest()
    for v in DATA["unit_tags"]:
        unit_hash = struct.pack("<Q", xxhash.xxh3_64(v["unit"].encode()).intdigest())
        assert v["tag"] == xxhash.xxh3_64_digest(unit_hash, seed)[0]


def test_pseudonyms():
    key = bytes.fromhex(DATA["ring"][0])
    for v in DATA["pseudonyms"]:
        assert v["pseudonym"] == mac(key, b"pseudonym", v["unit"].encode())[:8].hex()
