#!/usr/bin/python3
"""Writes cookie.json: assignment cookies, key rings, tags and pseudonyms made without the product's code.

The formats are those of shared/key_ring.h and shared/assignment_cookie.h. With --print the text goes to standard output
instead.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import sys

import xxhash

TARGET = pathlib.Path(__file__).with_name("cookie.json")

# Published in this repository, so good for nothing but tests.
KEY_A = bytes(range(32))
KEY_B = bytes(range(32, 64))
KEY_C = hashlib.sha256(b"a third key").digest()


def key_id(key):
    return hashlib.sha256(key).digest()[0]


def full_mac(key, purpose, data):
    sub_key = hmac.new(key, b"experiment " + purpose, hashlib.sha256).digest()
    return hmac.new(sub_key, data + purpose, hashlib.sha256).digest()[:16]


def to_text(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def record_bytes(record):
    arm = record["arm"] | (0x20 if record["baseline"] else 0) | (0x80 if "sum" in record else 0)
    out = record["experiment"].to_bytes(4, "little") + bytes([record["unit_tag"], arm])
    out += record["epoch"].to_bytes(6, "little")
    out += record["first_exposure_10min"].to_bytes(3, "little") + bytes([record["marks"]])
    return out + (record["sum"].to_bytes(4, "little") if "sum" in record else b"")


def signed(key, body, version=1, the_id=None, purpose=b"cookie"):
    data = bytes([version, key_id(key) if the_id is None else the_id]) + body
    return to_text(data + full_mac(key, purpose, data))


def cookie(key, records):
    return signed(key, b"".join(record_bytes(r) for r in records))


def experiment_tag(key, generation):
    key_hash = xxhash.xxh3_64_intdigest(key.encode())
    return xxhash.xxh3_64_intdigest(key_hash.to_bytes(8, "little"), seed=generation) & 0xFFFFFFFF


def unit_tag(unit_id):
    seed = xxhash.xxh3_64_intdigest(b"\0unit_tag")
    unit_hash = xxhash.xxh3_64_intdigest(unit_id.encode())
    return xxhash.xxh3_64_intdigest(unit_hash.to_bytes(8, "little"), seed=seed) >> 56


def record(i, with_sum=False):
    """The i-th of a row of records that visits every field's range."""
    out = {
        "experiment": experiment_tag(f"experiment-{i}", 1 + i % 3),
        "unit_tag": unit_tag(f"visitor-{i % 2}"),
        "arm": i % 20,
        "baseline": i % 5 == 0,
        "epoch": (i + 1) * 2**20 + (i * 77777) % 2**20,
        "first_exposure_10min": 2_944_000 + 1000 * i,
        "marks": (1 | 1 << (i % 8)) & 0xFF,
    }
    if with_sum:
        out["sum"] = 1999 * i
    return out


def good_cookies():
    largest = {"experiment": 2**32 - 1, "unit_tag": 255, "arm": 19, "baseline": True, "epoch": 2**48 - 1,
               "first_exposure_10min": 2**24 - 1, "marks": 255, "sum": 2**32 - 1}
    smallest = {"experiment": 0, "unit_tag": 0, "arm": 0, "baseline": False, "epoch": 0, "first_exposure_10min": 0,
                "marks": 0}
    rows = [
        ("no records", []),
        ("one record", [record(3)]),
        ("one record with a running sum", [record(4, True)]),
        ("a sum of zero is still a sum", [dict(record(4), sum=0)]),
        ("every field at its largest", [largest]),
        ("every field at its smallest", [smallest]),
        ("five records", [record(i) for i in range(5)]),
        ("twenty records without sums", [record(i) for i in range(20)]),
        ("twenty records, eleven with sums: as many as fit", [record(i, i < 11) for i in range(20)]),
        ("eighteen records, all with sums", [record(i, True) for i in range(18)]),
        ("one experiment, two units", [record(3), dict(record(3), unit_tag=record(3)["unit_tag"] ^ 1)]),
    ]
    return [{"name": name, "records": records, "text": cookie(KEY_A, records)} for name, records in rows]


def bad_cookies():
    one = record_bytes(record(3))
    summed = record_bytes(record(4, True))
    good = signed(KEY_A, one)
    rows = [
        ("empty text", "absent", ""),
        ("longer than 512 characters", "too_long", "A" * 513),
        ("a foreign character", "malformed", good[:8] + "+" + good[9:]),
        ("padding", "malformed", good + "=="),
        ("impossible length", "malformed", good + "A" * ((5 - len(good) % 4) % 4)),
        ("too short for a MAC", "malformed", to_text(bytes([1, key_id(KEY_A)]) + bytes(15))),
        ("version 2, well signed", "unknown_version", signed(KEY_A, one, version=2)),
        ("a key that the ring lacks", "unknown_key", signed(KEY_C, one)),
        ("another key under this id", "bad_mac", signed(KEY_C, one, the_id=key_id(KEY_A))),
        ("a MAC for another purpose", "bad_mac", signed(KEY_A, one, purpose=b"pseudonym")),
        ("one byte after the record, well signed", "malformed", signed(KEY_A, one + b"\0")),
        ("a record without its end, well signed", "malformed", signed(KEY_A, one[:-1])),
        ("a record without its sum, well signed", "malformed", signed(KEY_A, summed[:-4])),
        ("the reserved bit, well signed", "malformed", signed(KEY_A, one[:5] + bytes([one[5] | 0x40]) + one[6:])),
        ("arm 20, well signed", "malformed", signed(KEY_A, one[:5] + bytes([20]) + one[6:])),
        ("twenty-one records, well signed", "malformed",
         signed(KEY_A, b"".join(record_bytes(record(i)) for i in range(21)))),
    ]
    return [{"name": name, "status": status, "text": text} for name, status, text in rows]


def duplicates():
    first, again = record(3), dict(record(3), arm=7, marks=255)
    other = record(8)
    return {"text": cookie(KEY_A, [first, again, other]), "records": [first, other]}


def rings():
    out = []
    for keys in ([KEY_A], [KEY_A, KEY_B], [KEY_B, KEY_A]):
        digest = hashlib.sha256(b"".join(hashlib.sha256(k).digest() for k in keys)).hexdigest()
        single = [hashlib.sha256(hashlib.sha256(k).digest()).hexdigest()[:8] for k in keys]
        out.append({"keys": [k.hex() for k in keys], "ids": [key_id(k) for k in keys], "fingerprint": digest[:8],
                    "key_fingerprints": single})
    return out


def pseudonyms():
    units = ["", "visitor-0", "J8y0zHnXQvSkO3yHc1dZ2A", "a" * 256]
    return [{"unit": u, "pseudonym": full_mac(KEY_A, b"pseudonym", u.encode()).hex()[:16]} for u in units]


def vectors():
    tags = [("checkout-button", 1), ("checkout-button", 2), ("a", 1), ("hero-image", 2**32 - 1), ("x" * 40, 7)]
    return {
        "title": "Assignment cookie version 1, key ring, tags and pseudonyms",
        "generated_with": "t/vectors/make_cookie.py",
        "ring": [KEY_A.hex(), KEY_B.hex()],
        "rings": rings(),
        "cookies": good_cookies(),
        "rotated": {"records": [record(3)], "text": cookie(KEY_B, [record(3)])},
        "duplicates": duplicates(),
        "bad": bad_cookies(),
        "experiment_tags": [{"key": k, "generation": g, "tag": experiment_tag(k, g)} for k, g in tags],
        "unit_tags": [{"unit": u, "tag": unit_tag(u)} for u in ("visitor-0", "visitor-1", "alice", "a" * 256)],
        "pseudonyms": pseudonyms(),
    }


def text():
    return json.dumps(vectors(), indent=1) + "\n"


if __name__ == "__main__":
    if "--print" in sys.argv[1:]:
        sys.stdout.write(text())
    else:
        TARGET.write_text(text())
